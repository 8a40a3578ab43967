"""Where a half-written answer stands, token by token and all at once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deployments.controls.logits.shaping import read_states
from deployments.controls.logits.text_state import LONGEST_SENTENCE, TextState
from deployments.controls.logits.tokens import PRONOUN, classify

FIELDS = ("position", "ended", "fresh_line", "in_code", "after_pronoun", "after_word", "since_stop", "words", "rarity")
RARITIES = (0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -2.0)


def state_after(*texts: str) -> TextState:
    state = TextState()
    for text in texts:
        state.feed(classify(text))
    return state


@pytest.mark.parametrize(
    "texts",
    [
        (" It", " is", " so", "."),
        (" Really", "?"),
        (" He", " said", ' "', "yes", '."'),
        (" So", " it", " is", ".", "\n", "\n"),
        (" **", "Bold", ".**"),
        ("```", "python", "\n", "x", "\n", "```"),
        ("\n", " Yes", "…"),
    ],
)
def test_an_answer_may_end_after_a_sentence_or_a_closed_code_block(texts: tuple[str, ...]) -> None:
    assert state_after(*texts).ended


@pytest.mark.parametrize(
    "texts",
    [
        (),
        (" It", " is"),
        ("\n", "2", "."),
        (" e", "."),
        (" Dr", "."),
        (" as", " follows", ":", "\n"),
        ("```", "x", " =", " a", "."),
        (" one", ","),
    ],
)
def test_an_answer_may_not_end_inside_a_sentence_a_label_or_code(texts: tuple[str, ...]) -> None:
    assert not state_after(*texts).ended


def test_a_fresh_line_is_one_that_no_colon_announced() -> None:
    assert state_after("-", " Apples", "\n").fresh_line
    assert not state_after(" Fruit", ":", "\n").fresh_line
    assert not state_after("```", "x", "\n").fresh_line


def test_a_sentence_is_counted_from_the_last_stop_or_line() -> None:
    assert state_after(" It", " is", ".", " And", " so").since_stop == 2
    assert state_after("-", " Apples", "\n").since_stop == 0
    assert state_after(*[" on"] * 100).since_stop == LONGEST_SENTENCE


def test_a_pronoun_is_told_from_a_noun_before_s() -> None:
    assert classify(" It") == classify("that") == PRONOUN != classify(" dog")


@given(
    st.lists(
        st.lists(st.integers(0, 8), max_size=40),
        min_size=1,
        max_size=6,
    )
)
def test_whole_rows_are_read_as_token_by_token(rows: list[list[int]]) -> None:
    longest = max(1, *map(len, rows)) + 3
    # What stands after a row's end is somebody else's.
    classes_RL = torch.tensor([row + [2] * (longest - len(row)) for row in rows], dtype=torch.uint8)
    rarity_RL = torch.tensor([[RARITIES[kind] for kind in row] + [1.5] * (longest - len(row)) for row in rows])
    read = read_states(classes_RL, rarity_RL, torch.tensor([len(row) for row in rows]))
    for at, row in enumerate(rows):
        state = TextState()
        for kind in row:
            state.feed(kind, RARITIES[kind])
        assert {name: getattr(read, f"{name}_R")[at].item() for name in FIELDS} == {
            name: getattr(state, name) for name in FIELDS
        }
