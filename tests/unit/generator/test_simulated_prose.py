"""Simulated prose passes for prose, and its tokens for tokens."""

import random
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.generator.simulated_prose import MARKER, Prose
from deployments.generator.simulated_tokens import count_prompt_tokens, split_tokens
from graph.contracts import Message


def make_prose(seed: int) -> Prose:
    return Prose(random.Random(seed))


def words(seed: int, count: int) -> list[str]:
    prose = make_prose(seed)
    found: list[str] = []
    while len(found) < count:
        found += prose.sentence().split()
    return found[:count]


@pytest.mark.parametrize("count", [300, 3000])
def test_hardly_any_run_of_eight_words_comes_twice(count: int) -> None:
    for seed in range(20):
        text = words(seed, count)
        runs = [tuple(text[at : at + 8]) for at in range(len(text) - 7)]
        assert 1 - len(set(runs)) / len(runs) < 0.03


def test_sentences_are_well_formed() -> None:
    for seed in range(50):
        prose = make_prose(seed)
        assert prose.sentence() == MARKER
        for _ in range(20):
            sentence = prose.sentence()
            assert re.fullmatch(r"[A-Z][^\n{}]{20,158}\.", sentence)
            assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]|  ", sentence)


def test_two_sentences_in_a_row_do_not_begin_alike() -> None:
    prose = make_prose(1)
    starts = [" ".join(prose.sentence().split()[:2]) for _ in range(500)]
    alike = [start for start, following in pairwise(starts) if start == following]
    assert len(alike) < 10


def test_the_same_seed_gives_the_same_sentences() -> None:
    assert words(3, 200) == words(3, 200)
    assert words(3, 200) != words(4, 200)


@given(st.text())
def test_tokens_joined_are_the_text(text: str) -> None:
    tokens = split_tokens(text)
    assert "".join(tokens) == text
    assert all(tokens)


def test_a_word_has_about_as_many_tokens_as_in_a_real_model() -> None:
    text = " ".join(words(1, 1000))
    assert 1.25 < len(split_tokens(text)) / 1000 < 1.5


@pytest.mark.parametrize(("characters", "tokens"), [(0, 1), (1, 1), (4, 1), (5, 2), (400, 100)])
def test_a_prompt_token_is_four_characters(characters: int, tokens: int) -> None:
    assert count_prompt_tokens([Message("system", ""), Message("user", "x" * characters)]) == tokens
