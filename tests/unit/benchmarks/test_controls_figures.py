"""The statistics of the dials, against answers that are known."""

import numpy as np
import pytest

from benchmarks.controls.crosstalk import crosstalk
from benchmarks.controls.figures import (
    bootstrap,
    cohens_d,
    distinct_2,
    highest_spearman,
    is_increasing,
    isotonic,
    length_error,
    level_means,
    pooled_spread,
    rounded,
    shift,
    spearman,
    variety,
    wilson,
)
from benchmarks.controls.samples import count_contractions, count_unknown_words


def test_a_perfect_order_has_rho_one_and_a_turned_one_minus_one() -> None:
    assert spearman([(1, 10.0), (2, 20.0), (3, 90.0)]) == pytest.approx(1)
    assert spearman([(1, 9.0), (2, 2.0), (3, 1.0)]) == pytest.approx(-1)


def test_ties_take_their_mean_rank() -> None:
    # Ranks of the levels 1.5 1.5 3.5 3.5, of the values 1 2 3 4: rho = 4 / sqrt(4 * 5).
    assert spearman([(0, 1.0), (0, 2.0), (1, 3.0), (1, 4.0)]) == pytest.approx(4 / 20**0.5)


def test_what_does_not_vary_has_no_correlation() -> None:
    assert spearman([(0, 5.0), (50, 5.0), (100, 5.0)]) == 0
    assert spearman([(0, 5.0)]) == 0


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_the_highest_rho_is_what_a_perfect_order_of_many_answers_reaches(levels: int) -> None:
    points = [(level, level + each / 1000) for level in range(levels) for each in range(200)]
    assert spearman(points) == pytest.approx(highest_spearman(levels), abs=1e-3)


def test_a_bootstrap_draws_groups_and_is_the_same_for_the_same_seed() -> None:
    rng = np.random.default_rng(3)
    groups = [[(level, level + rng.normal(0, 60)) for level in (0, 25, 50, 75, 100)] for _ in range(40)]
    first = bootstrap(groups, spearman, seed=1, resamples=200)
    assert first == bootstrap(groups, spearman, seed=1, resamples=200)
    assert first["low"] < first["value"] < first["high"]
    # All points of a group come together: with one group nothing is left to draw.
    alone = bootstrap(groups[:1], spearman, seed=1, resamples=50)
    assert alone["low"] == alone["value"] == alone["high"]


def test_the_isotonic_fit_pools_what_is_out_of_order_by_weight() -> None:
    assert isotonic([1.0, 3.0, 2.0, 4.0], [1, 1, 1, 1]) == pytest.approx([1, 2.5, 2.5, 4])
    assert isotonic([1.0, 3.0, 2.0], [1, 1, 3]) == pytest.approx([1, 2.25, 2.25])
    assert isotonic([4.0, 1.0, 2.0], [1, 1, 1], increasing=False) == pytest.approx([4, 1.5, 1.5])


def test_a_shift_is_in_units_of_what_is_given_and_d_in_those_of_the_two_levels() -> None:
    points = [(0, 1.0), (0, 3.0), (50, 100.0), (100, 5.0), (100, 7.0)]
    assert level_means(points) == {0: 2, 50: 100, 100: 6}
    assert shift(points, 0, 100, unit=8) == pytest.approx(0.5)
    assert shift(points, 0, 100, unit=0) == 0
    assert cohens_d(points, 0, 100) == pytest.approx(4 / 2**0.5)


def test_a_pooled_spread_weighs_groups_by_their_freedom() -> None:
    assert pooled_spread([[0.0, 2.0], [5.0, 5.0, 5.0]]) == pytest.approx((2 / 3) ** 0.5)
    assert pooled_spread([[1.0], [2.0]]) == 0


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"), [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0)]
)
def test_wilsons_interval_is_that_of_the_textbook(hits: int, count: int, low: float, high: float) -> None:
    found = wilson(hits, count)
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=1e-4)


def test_no_trials_say_nothing() -> None:
    assert wilson(0, 0) == {"value": 0.0, "low": 0.0, "high": 1.0}


def test_variety_is_zero_for_one_text_and_one_for_texts_that_share_nothing() -> None:
    same = np.tile(np.array([[0.6, 0.8]], dtype=np.float32), (5, 1))
    assert variety(same) == 0
    assert variety(np.eye(3, dtype=np.float32)) == 1
    assert variety(same[:1]) == 0


def test_distinct_2_counts_pairs_over_all_texts_together() -> None:
    assert distinct_2(["a b a b", "A B"]) == pytest.approx(2 / 4)
    assert distinct_2(["a"]) == 0


def test_a_length_error_is_a_share_of_the_target() -> None:
    assert length_error(120, 100) == pytest.approx(0.2)
    assert length_error(80, 100) == pytest.approx(0.2)


def test_equal_neighbours_are_not_increasing() -> None:
    assert is_increasing([1, 2, 3])
    assert not is_increasing([1, 2, 2])


def test_a_record_has_plain_keys_and_rounded_numbers() -> None:
    assert rounded({0: (1.23456, 2), "a": None, "b": True}) == {"0": [1.2346, 2], "a": None, "b": True}


def test_cross_talk_divides_by_the_spread_of_the_yardsticks_own_sweep() -> None:
    own = [(0, 10.0), (0, 20.0), (100, 30.0), (100, 40.0)]  # sample SD 12.91
    points = {
        "depth": {"words": own, "casual": [(0, 1.0), (0, 2.0), (100, 3.0), (100, 4.0)]},
        "formality": {"words": [(0, 15.0), (0, 17.0), (100, 19.0), (100, 21.0)], "casual": own},
    }
    found = crosstalk(points, {"formality": {"depth": "a formal letter is longer"}})
    cells = {(cell["slider"], cell["yardstick"]): cell for cell in found["cells"]}
    assert found["units"] == pytest.approx({"words": 12.9099, "casual": 12.9099}, abs=1e-3)
    assert cells["formality", "words"]["shift_sd"] == pytest.approx(4 / 12.9099, abs=1e-4)
    assert cells["formality", "words"]["cohens_d"] == pytest.approx(4 / 2**0.5)
    assert cells["depth", "casual"]["shift_sd"] == pytest.approx(2 / 12.9099, abs=1e-4)
    assert [key for key, cell in cells.items() if cell["own"]] == [("depth", "words"), ("formality", "casual")]
    # Declared is what the one slider does to the other's yardstick, not the other way round.
    assert [key for key, cell in cells.items() if cell["declared"]] == [("formality", "words")]


def test_contractions_are_counted_and_possessives_are_not() -> None:
    assert count_contractions("It's fine, we don't mind; they’ll see that she'd know.") == 4
    assert count_contractions("The dog's bone and the children's toys are James' own.") == 0


def test_words_that_nobody_uses_are_counted_and_names_are_not() -> None:
    assert count_unknown_words("The qzxvy went to Xqzvytown with a friend") == (1, 5)
