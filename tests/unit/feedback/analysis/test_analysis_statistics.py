import math

import numpy as np
import pytest

from deployments.feedback.analysis.statistics import (
    CalibrationBin,
    Confusion,
    bootstrap_mean,
    chi_square_95,
    expected_calibration_error,
    histogram,
    kappa,
    mean_interval,
    percentile,
    population_stability,
    quantile_edges,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe (1998), Statistics in Medicine 17:857-872, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_intervals_that_newcombe_published(successes, n, low, high):
    estimate = wilson(successes, n)
    assert estimate.value == successes / n
    assert (round(estimate.low, 4), round(estimate.high, 4)) == (low, high)


def test_wilson_stays_inside_zero_and_one_and_holds_its_estimate():
    for n in range(1, 40):
        for successes in range(n + 1):
            estimate = wilson(successes, n)
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_a_share_of_nothing_has_no_estimate():
    assert wilson(0, 0) is None
    assert mean_interval(0, 0.0, 0.0) is None
    assert bootstrap_mean({}, np.random.default_rng(0)) is None
    assert kappa(Confusion(0, 0, 0, 0)) is None
    assert expected_calibration_error([]) is None
    assert population_stability([0, 0], [1, 2]) is None
    assert percentile([], 0.5) is None


def test_the_mean_s_interval_is_that_of_the_textbook():
    values = [4.0, 5.0, 6.0, 7.0, 8.0]
    estimate = mean_interval(5, sum(values), sum(v * v for v in values))
    assert estimate.value == 6.0
    assert estimate.high - estimate.value == pytest.approx(1.959964 * math.sqrt(2.5 / 5))


def test_the_mean_of_one_value_is_that_value():
    estimate = mean_interval(1, 0.7, 0.49)
    assert (estimate.low, estimate.value, estimate.high) == (0.7, 0.7, 0.7)


def test_the_bootstrap_agrees_with_the_central_limit_theorem_where_both_hold():
    counts = {1.0: 300, 2.0: 200, 3.0: 500, 4.0: 700, 5.0: 300}
    normal = mean_interval(2000, sum(v * n for v, n in counts.items()), sum(v * v * n for v, n in counts.items()))
    estimate = bootstrap_mean(counts, np.random.default_rng(7), resamples=20_000)
    assert estimate.value == pytest.approx(normal.value)
    assert estimate.low == pytest.approx(normal.low, abs=0.003)
    assert estimate.high == pytest.approx(normal.high, abs=0.003)


def test_the_bootstrap_repeats_itself_for_equal_seeds():
    counts = {1.0: 3, 5.0: 9}
    assert bootstrap_mean(counts, np.random.default_rng(3)) == bootstrap_mean(counts, np.random.default_rng(3))


@pytest.mark.parametrize(
    ("table", "value"),
    # Widely printed examples of Cohen's kappa: 20/5/10/15, and two tables of equal agreement and unequal kappa.
    [((20, 5, 10, 15), 0.4), ((45, 15, 25, 15), 0.1304), ((25, 35, 5, 35), 0.2593)],
)
def test_kappa_gives_the_published_examples(table, value):
    assert kappa(Confusion(*table)).value == pytest.approx(value, abs=5e-5)


def test_kappa_is_one_for_complete_agreement_and_zero_for_chance():
    assert kappa(Confusion(30, 0, 0, 70)).value == pytest.approx(1)
    assert kappa(Confusion(25, 25, 25, 25)).value == pytest.approx(0)


def test_kappa_does_not_exist_when_all_answers_are_alike():
    assert kappa(Confusion(50, 0, 0, 0)) is None
    assert kappa(Confusion(0, 0, 0, 50)) is None


def test_nineteen_of_twenty_intervals_of_kappa_hold_the_true_value():
    rng = np.random.default_rng(1)
    shares = [0.5, 0.1, 0.15, 0.25]
    truth = (0.75 - 0.53) / (1 - 0.53)  # by chance 0.6 x 0.65 + 0.4 x 0.35
    draws = rng.multinomial(300, shares, size=1000).tolist()
    held = sum(est.low <= truth <= est.high for est in (kappa(Confusion(*draw)) for draw in draws))
    assert 930 <= held <= 970


def test_the_calibration_error_is_the_weighted_distance_of_score_and_share():
    bins = [CalibrationBin(10, 0.2, 4), CalibrationBin(30, 0.8, 24)]
    assert expected_calibration_error(bins) == pytest.approx((10 * 0.2 + 30 * 0.0) / 40)


def test_stability_is_the_sum_of_the_definition():
    expected = (0.6 - 0.5) * math.log(0.6 / 0.5) + (0.4 - 0.5) * math.log(0.4 / 0.5)
    assert population_stability([50, 50], [60, 40]).psi == pytest.approx(expected)


def test_stability_is_zero_without_a_change_and_finite_with_an_empty_bin():
    assert population_stability([5, 10], [50, 100]).psi == pytest.approx(0)
    drift = population_stability([100, 0], [0, 100])
    assert math.isfinite(drift.psi)
    assert drift.psi > 10


def test_bins_that_are_empty_in_both_samples_do_not_count():
    assert population_stability([5, 0, 10], [8, 0, 7]) == population_stability([5, 10], [8, 7])


def test_histograms_of_other_bins_cannot_be_compared():
    with pytest.raises(ValueError, match="2 and 3 bins"):
        population_stability([1, 2], [1, 2, 3])


def test_chance_alone_exceeds_its_bound_in_one_of_twenty():
    rng = np.random.default_rng(2)
    shares = [0.1] * 10
    drifts = [
        population_stability(rng.multinomial(4000, shares).tolist(), rng.multinomial(6000, shares).tolist())
        for _ in range(1000)
    ]
    exceeding = sum(drift.psi > drift.by_chance for drift in drifts)
    assert 30 <= exceeding <= 75


@pytest.mark.parametrize(
    ("degrees", "value"), [(1, 3.841), (2, 5.991), (3, 7.815), (5, 11.070), (9, 16.919), (30, 43.773)]
)
def test_chi_square_is_close_to_the_tables(degrees, value):
    assert chi_square_95(degrees) == pytest.approx(value, rel=0.03 if degrees < 3 else 0.01)
    assert chi_square_95(0) == 0


def test_edges_cut_into_equal_parts():
    counts = {float(value): 1 for value in range(1, 101)}
    edges = quantile_edges(counts)
    assert edges == (10, 20, 30, 40, 50, 60, 70, 80, 90)
    assert histogram(counts, edges) == (10,) * 10


def test_ties_make_fewer_bins_and_no_empty_ones():
    counts = {0.5: 5, 1.0: 95}
    edges = quantile_edges(counts)
    assert histogram(counts, edges) == (5, 95) if edges else (100,)
    assert all(histogram(counts, edges))


def test_one_value_has_no_edges():
    assert quantile_edges({0.9: 100}) == ()
    assert histogram({0.9: 100}, ()) == (100,)
    assert quantile_edges({}) == ()


def test_percentiles_are_nearest_ranks():
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.95) == 4.0
    assert percentile([7.0], 0.5) == 7.0
