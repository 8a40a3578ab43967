"""How the levers bend logits: what they move, and what they never touch."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deployments.controls.logits import shaping
from deployments.controls.logits.repeats import Repeats
from deployments.controls.logits.shaping import (
    BANNED,
    CONNECTING,
    FIRM,
    FOOTER,
    HELD,
    PLAUSIBLE,
    RARITY_MOST,
    REPEATED,
    REPEATED_TOKENS,
    RUN_ON,
    Levers,
    States,
    Tables,
    bend,
    read_repeats,
)
from deployments.controls.logits.text_state import LONGEST_SENTENCE
from deployments.controls.logits.tokens import build_tables
from graph.contracts import LogitsPlan

TEXTS = ["", "", " the", " molecule", " house", ".", "'t", "'s", " wow", "’", "\n", " with", " However", " #"]
END, TURN, THE, MOLECULE, HOUSE, DOT, NOT, S, WOW, CURLY, LINE, WITH, HOWEVER, HASH = range(len(TEXTS))
ZIPF = {"the": 7.7, "molecule": 3.5, "house": 5.6, "with": 6.9, "wow": 4.6}
COMMON = {"words": 100, "rarity": -150.0}
NO_REPEATS = (torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(0))
NOBODY = (torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))


def make_tables() -> Tables:
    tables = build_tables(TEXTS, lambda word: ZIPF.get(word, 0.0), ["wow"], len(TEXTS) + 4)
    return Tables.of(tables, [END], [END, TURN], torch.device("cpu"))


def make_states(**values: object) -> States:
    given = {"position": 100, "ended": False, "fresh_line": False, "in_code": False, "after_pronoun": False}
    given |= {"after_word": True, "since_stop": 10, "words": 0, "rarity": 0.0, **values}
    return States(**{f"{name}_R": torch.tensor([value]) for name, value in given.items()})


def bent(
    plan: LogitsPlan, logits: list[float] | None = None, spared: tuple[int, ...] = (), **state: object
) -> list[float]:
    row = torch.tensor([logits or [0.0] * (len(TEXTS) + 4)])
    pairs = (torch.zeros(len(spared), dtype=torch.long), torch.tensor(spared, dtype=torch.long))
    bend(row, slice(None), Levers.of([plan], row.device), make_states(**state), make_tables(), pairs, NO_REPEATS)
    return [float(value) for value in row[0]]


def test_rarity_weighs_words_by_their_zipf_distance_from_an_everyday_word() -> None:
    # As if 10 words had hit the mean of 0, and these 10 miss it by 0.4 each: the lever stands at 5 · 0.2.
    up = bent(LogitsPlan(rarity=0.0), words=10, rarity=-4.0)
    assert up[MOLECULE] == pytest.approx(1.0)
    assert up[HOUSE] == pytest.approx(-1.1)
    assert up[WITH] == pytest.approx(-2.0), "clipped"
    assert up[THE] == 0.0, "shorter than four letters"
    assert [-value for value in up] == pytest.approx(bent(LogitsPlan(rarity=0.0), words=10, rarity=4.0))


def test_rarity_lets_go_where_the_words_are_as_rare_as_asked() -> None:
    assert bent(LogitsPlan(rarity=-0.5), words=40, rarity=-20.0) == [0.0] * (len(TEXTS) + 4)
    assert bent(LogitsPlan(rarity=-0.5)) == [0.0] * (len(TEXTS) + 4), "nor before the first word"


def test_rarity_pushes_no_harder_than_its_limit() -> None:
    assert bent(LogitsPlan(rarity=2.0), words=1000, rarity=-2000.0)[MOLECULE] == pytest.approx(RARITY_MOST)


def test_a_word_that_is_not_plausible_is_not_taken_up() -> None:
    logits = [0.0] * (len(TEXTS) + 4)
    logits[THE], logits[MOLECULE] = 10.0, 10.0 - PLAUSIBLE - 1
    assert bent(LogitsPlan(rarity=2.0), logits, **COMMON)[MOLECULE] == logits[MOLECULE]


def test_words_of_the_users_own_prompt_keep_their_logits() -> None:
    assert bent(LogitsPlan(rarity=1.0), spared=(MOLECULE,), **COMMON)[MOLECULE] == 0.0
    assert bent(LogitsPlan(casual=3.0), spared=(WOW,))[WOW] == 0.0
    assert bent(LogitsPlan(casual=-20.0), spared=(WOW,))[WOW] == -20.0, "a ban holds for everybody"


def test_an_anchor_raises_the_users_own_words_where_they_are_plausible() -> None:
    plan = LogitsPlan(rarity=-1.0, anchor=0.8)
    assert bent(plan, spared=(MOLECULE,), **COMMON)[MOLECULE] == pytest.approx(0.8)
    far = [0.0] * (len(TEXTS) + 4)
    far[THE] = PLAUSIBLE + 1
    assert bent(plan, far, spared=(MOLECULE,))[MOLECULE] == 0.0


def test_nothing_is_bent_inside_code() -> None:
    plan = LogitsPlan(rarity=2.0, casual=-20.0, stops=3.0)
    assert bent(plan, in_code=True, **COMMON) == [0.0] * (len(TEXTS) + 4)


def test_casual_words_and_contractions_are_bent_and_s_only_after_a_pronoun() -> None:
    row = bent(LogitsPlan(casual=2.0))
    assert (row[NOT], row[WOW], row[S]) == (2.0, 2.0, 0.0)
    assert bent(LogitsPlan(casual=2.0), after_pronoun=True)[S] == 2.0


def test_a_ban_takes_the_curly_apostrophe_inside_a_word_with_it() -> None:
    assert bent(LogitsPlan(casual=BANNED))[CURLY] == BANNED
    assert bent(LogitsPlan(casual=BANNED), after_word=False)[CURLY] == 0.0
    assert bent(LogitsPlan(casual=BANNED + 1))[CURLY] == 0.0


def test_stops_shorten_sentences_but_make_no_fragments() -> None:
    assert bent(LogitsPlan(stops=3.0), since_stop=20)[DOT] == 3.0
    assert bent(LogitsPlan(stops=3.0), since_stop=3)[DOT] == 0.0
    assert bent(LogitsPlan(stops=-3.0), since_stop=20)[DOT] == -3.0
    assert bent(LogitsPlan(stops=-3.0), since_stop=60)[DOT] == 0.0


@pytest.mark.parametrize("position", [0, 50, 130])
def test_the_end_is_held_before_the_target_even_after_a_sentence(position: int) -> None:
    row = bent(LogitsPlan(200), position=position, ended=True)
    assert row[END] <= HELD / 2
    assert row[TURN] <= HELD / 2, "no new turn may open in its place"


def test_the_end_is_held_inside_a_sentence_also_past_the_target() -> None:
    assert bent(LogitsPlan(200), position=205, ended=False)[END] <= HELD / 2


def test_past_the_target_the_next_end_of_a_sentence_is_as_good_as_certain() -> None:
    assert bent(LogitsPlan(200), position=200, ended=True)[END] == pytest.approx(FIRM)


def test_the_pressure_to_end_grows_with_the_answer() -> None:
    ends = [bent(LogitsPlan(200), position=position, ended=True)[END] for position in range(150, 260)]
    rising = [value for value in ends if value > HELD / 2]
    assert rising == sorted(rising)
    # Where the model would end by itself it may, shortly before.
    assert bent(LogitsPlan(200), [30.0] + [0.0] * (len(TEXTS) + 3), position=185, ended=True)[END] == 30.0


def test_a_model_that_would_end_too_early_goes_on_with_a_connective() -> None:
    wants_to_end = [20.0] + [12.0] * (len(TEXTS) + 3)
    plan = LogitsPlan(200, connect=True)
    assert bent(plan, wants_to_end, position=50, ended=True)[HOWEVER] == 12.0 + CONNECTING
    assert bent(plan, wants_to_end, position=50, ended=False)[HOWEVER] == 12.0, "not inside a sentence"
    assert bent(plan, wants_to_end, position=210, ended=True)[HOWEVER] == 12.0, "not where it may end"
    assert bent(LogitsPlan(200), wants_to_end, position=50, ended=True)[HOWEVER] == 12.0, "not in another language"
    calm = [0.0] + [12.0] * (len(TEXTS) + 3)
    assert bent(plan, calm, position=50, ended=True)[HOWEVER] == 12.0, "not where it would go on by itself"


def test_footers_are_unlikely_while_a_length_is_held() -> None:
    assert bent(LogitsPlan(200))[HASH] == FOOTER
    assert bent(LogitsPlan(rarity=1.0))[HASH] == 0.0
    assert bent(LogitsPlan(200), in_code=True)[HASH] == 0.0


def test_a_token_that_followed_before_is_unlikely_while_a_length_is_held() -> None:
    for plan, expected in ((LogitsPlan(200), 2 * REPEATED), (LogitsPlan(rarity=0.5), 0.0)):
        row = torch.zeros(1, len(TEXTS) + 4)
        found = (torch.tensor([0]), torch.tensor([THE]), torch.tensor([2.0]))
        bend(row, slice(None), Levers.of([plan], row.device), make_states(), make_tables(), NOBODY, found)
        assert row[0, THE] == expected


@given(st.lists(st.lists(st.integers(0, 1), max_size=40), min_size=1, max_size=4))
def test_repeats_are_found_in_whole_rows_as_token_by_token(answers: list[list[int]]) -> None:
    longest = max(1, *map(len, answers)) + 2
    tokens_RL = torch.tensor([answer + [0] * (longest - len(answer)) for answer in answers])
    rows, tokens, times = read_repeats(tokens_RL, torch.tensor([len(answer) for answer in answers]))
    for at, answer in enumerate(answers):
        fed = Repeats(REPEATED_TOKENS)
        for token in answer:
            fed.feed(token)
        is_mine = rows == at
        assert {token: int(times[is_mine & (tokens == token)].sum()) for token in (0, 1)} == {
            token: fed.following().get(token, 0) for token in (0, 1)
        }


def test_a_sentence_that_never_ends_is_ended_while_a_length_is_held() -> None:
    logits = [0.0] * (len(TEXTS) + 4)
    logits[THE] = 12.0
    assert bent(LogitsPlan(200), logits, since_stop=LONGEST_SENTENCE, position=90)[DOT] == RUN_ON
    assert bent(LogitsPlan(stops=-1.0), logits, since_stop=LONGEST_SENTENCE)[DOT] == 0.0


def test_a_list_without_stops_may_end_at_a_fresh_line_when_it_is_late() -> None:
    assert bent(LogitsPlan(100), position=120, fresh_line=True)[END] <= HELD / 2
    assert bent(LogitsPlan(100), position=131, fresh_line=True)[END] == pytest.approx(FIRM)


def test_what_a_grammar_forbids_stays_forbidden() -> None:
    masked = [-math.inf] * (len(TEXTS) + 4)
    masked[MOLECULE] = 0.0
    plan = LogitsPlan(50, rarity=0.0, stops=3.0, casual=3.0)
    row = bent(plan, masked, position=60, ended=True, words=10, rarity=-4.0)
    assert row[MOLECULE] == pytest.approx(1.0)
    assert all(value == -math.inf or value <= HELD / 2 for at, value in enumerate(row) if at != MOLECULE)


def test_only_the_chosen_rows_are_bent() -> None:
    rows = torch.zeros(3, len(TEXTS) + 4)
    levers = Levers.of([LogitsPlan(casual=1.0)], rows.device)
    bend(rows, torch.tensor([1]), levers, make_states(), make_tables(), NOBODY, NO_REPEATS)
    assert rows[0].abs().sum() == rows[2].abs().sum() == 0.0
    assert rows[1, WOW] == pytest.approx(1.0)


def test_rows_of_one_batch_do_not_see_each_other() -> None:
    plans = [LogitsPlan(50), LogitsPlan(rarity=2.0), LogitsPlan(), LogitsPlan(casual=-20.0), LogitsPlan(stops=3.0)]
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(len(plans), len(TEXTS) + 4, generator=generator)
    one = make_states(position=60, ended=True, since_stop=20, **COMMON)
    repeated = [getattr(one, name).repeat(len(plans)) for name in States.__dataclass_fields__]
    together = logits.clone()
    bend(together, slice(None), Levers.of(plans, logits.device), States(*repeated), make_tables(), NOBODY, NO_REPEATS)
    for at, plan in enumerate(plans):
        alone = logits[at : at + 1].clone()
        bend(alone, slice(None), Levers.of([plan], logits.device), one, make_tables(), NOBODY, NO_REPEATS)
        assert torch.allclose(together[at], alone[0]), plan
    assert torch.equal(together[2], logits[2]), "a plan of zeros changes nothing"


def test_a_vocabulary_padded_by_the_model_leaves_its_padding_alone() -> None:
    tables = build_tables(TEXTS, lambda word: 0.0, (), 64)
    assert not np.any(tables.rarity_V[len(TEXTS) :])
    assert shaping.Tables.of(tables, [END], [], torch.device("cpu")).classes_V.shape == (64,)
