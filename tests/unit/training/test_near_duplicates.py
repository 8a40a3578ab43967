from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.near_duplicates import find_near_duplicates, jaccard, shingle

THRESHOLDS = st.sampled_from([Fraction(1, 3), Fraction(1, 2), Fraction(17, 20), Fraction(1)])
TOKENS = st.frozensets(st.integers(0, 11), min_size=1, max_size=9)


def compare_all_pairs(rows, threshold):
    """The definition, without any filter."""
    kept, repeats = [], {}
    for place, row in enumerate(rows):
        near = (
            other
            for other in kept
            if all(jaccard(mine, theirs) >= threshold for mine, theirs in zip(row, rows[other], strict=True))
        )
        found = next(near, None)
        if found is None:
            kept.append(place)
        else:
            repeats[place] = found
    return repeats


@given(st.lists(st.tuples(TOKENS, TOKENS.map(lambda part: {token + 100 for token in part})), max_size=25), THRESHOLDS)
@settings(max_examples=400, deadline=None)
def test_the_search_finds_exactly_what_comparing_all_pairs_finds(rows, threshold):
    assert find_near_duplicates(rows, threshold) == compare_all_pairs(rows, threshold)


def parts(*texts):
    return [shingle(text, str(number)) for number, text in enumerate(texts)]


LONG = "The sky is blue because air scatters short waves of light more than long ones, as Rayleigh found out in 1871"


def test_case_spaces_and_punctuation_make_no_other_text():
    rows = [parts("Why?", LONG), parts("why", LONG.upper().replace(",", " -") + "!")]
    assert find_near_duplicates(rows, Fraction(1)) == {1: 0}


def test_one_changed_word_in_a_long_text_is_near_and_another_text_is_not():
    rows = [parts("Why?", LONG * 3), parts("Why?", LONG * 3 + " indeed"), parts("Why?", LONG[::-1])]
    assert find_near_duplicates(rows, Fraction(9, 10)) == {1: 0}


def test_equal_answers_to_other_prompts_and_other_answers_to_a_long_equal_prompt_stay():
    rows = [parts(LONG, "Yes, it does."), parts(LONG, "No, never at all."), parts("Is it?", "Yes, it does.")]
    assert find_near_duplicates(rows, Fraction(1, 2)) == {}


def test_a_chain_of_small_changes_is_compared_with_what_is_kept_only():
    rows = [[{1, 2, 3, 4}], [{2, 3, 4, 5}], [{3, 4, 5, 6}]]
    assert find_near_duplicates(rows, Fraction(3, 5)) == {1: 0}


@pytest.mark.parametrize(("one", "other"), [("?", "!"), ("👍", "👎"), ("", "x"), ("短い文です", "長い文です")])
def test_texts_without_spaces_or_words_are_told_apart(one, other):
    assert shingle(one, "0") != shingle(other, "0")
    assert len(shingle(one, "0")) >= 1


def test_equal_runs_in_two_parts_are_two_shingles():
    assert shingle(LONG, "0").isdisjoint(shingle(LONG, "1"))
