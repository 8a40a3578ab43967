import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.rollout.sequential import (
    _HARM_PRIOR,
    _NO_HARM_PRIOR,
    ArmCounts,
    CanaryRules,
    Signal,
    Stage,
    difference_bounds,
    judge_canary,
)
from graph.errors import InvalidRequest

ALPHA = 0.05
NEVER = 10**9


def make_stage(champion, canary):
    """Each (failures, answers)."""
    return Stage(ArmCounts(champion[1], champion[0]), ArmCounts(canary[1], canary[0]))


def judge(champion, canary, rules=None, **signal):
    return judge_canary({"validator": Signal([make_stage(champion, canary)], **signal)}, rules)


def simulate(rng, champion, canary, answers, share=0.5):
    """Counts after each answer of a simulated canary, of shape (answers, 4): failures and passes, champion then canary.

    ``champion`` and ``canary``: failure rates, one for all answers or one for each.
    """
    on_canary = rng.random(answers) < share
    failed = rng.random(answers) < np.where(on_canary, canary, champion)
    cells = [~on_canary & failed, ~on_canary & ~failed, on_canary & failed, on_canary & ~failed]
    return np.cumsum(cells, axis=1).T.astype(float)


def fit(cells, difference):
    """The highest log-likelihood with this difference of rates, of many counts at once: apart from the code under test."""
    low = np.full(len(cells), max(0.0, -difference))
    high = np.full(len(cells), min(1.0, 1 - difference))
    a, b, c, d = cells.T
    for _ in range(45):
        p = (low + high) / 2
        rising = a / p - b / (1 - p) + c / (p + difference) - d / (1 - p - difference) > 0
        low, high = np.where(rising, p, low), np.where(rising, high, p)
    p = (low + high) / 2
    return a * np.log(p) + b * np.log1p(-p) + c * np.log(p + difference) + d * np.log1p(-p - difference)


def observed(cells):
    a, b, c, d = cells.T
    with np.errstate(all="ignore"):
        return np.nan_to_num(c / (c + d) - a / (a + b))


def low_above(cells, difference, alpha=ALPHA):
    """After which answers the lower bound is above this difference."""
    return (_HARM_PRIOR.log_means(cells) - fit(cells, difference) >= -math.log(alpha)) & (observed(cells) > difference)


def high_below(cells, difference, alpha=ALPHA):
    return (_NO_HARM_PRIOR.log_means(cells) - fit(cells, difference) >= -math.log(alpha)) & (
        observed(cells) < difference
    )


def first(at):
    """The number of answers after which it holds for the first time."""
    return int(at.argmax()) + 1 if at.any() else NEVER


def as_stage(cells):
    a, b, c, d = (int(cell) for cell in cells)
    return make_stage((a, a + b), (c, c + d))


# The bounds


@given(
    champion=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    canary=st.tuples(st.integers(0, 60), st.integers(0, 60)),
)
@settings(max_examples=60, deadline=None)
def test_the_bounds_lie_around_the_observed_difference_and_widen_with_certainty(champion, canary):
    stage = make_stage((champion[0], sum(champion)), (canary[0], sum(canary)))
    bounds = difference_bounds([stage])
    assert -1 <= bounds.low <= bounds.high <= 1
    if not (sum(champion) and sum(canary)):
        assert (bounds.value, bounds.low, bounds.high) == (None, -1, 1)
        return
    assert bounds.value == pytest.approx(canary[0] / sum(canary) - champion[0] / sum(champion))
    assert bounds.low <= bounds.value <= bounds.high
    surer = difference_bounds([stage], 0.001, 0.001)
    assert surer.low <= bounds.low
    assert bounds.high <= surer.high


@given(st.lists(st.tuples(*[st.integers(0, 30)] * 4), min_size=1, max_size=3))
@settings(max_examples=30, deadline=None)
def test_the_order_of_stages_does_not_matter(stages):
    made = [as_stage(cells) for cells in stages]
    forwards, backwards = difference_bounds(made), difference_bounds(made[::-1])
    assert forwards.low == pytest.approx(backwards.low, abs=1e-6)
    assert forwards.high == pytest.approx(backwards.high, abs=1e-6)


def test_a_bound_is_where_the_evidence_reaches_its_level():
    cells = np.array([[10.0, 90.0, 32.0, 68.0]])
    bounds = difference_bounds([as_stage(cells[0])])
    for bound, prior in ((bounds.low, _HARM_PRIOR), (bounds.high, _NO_HARM_PRIOR)):
        assert (prior.log_means(cells) - fit(cells, bound))[0] == pytest.approx(math.log(20), abs=1e-6)


def test_the_bounds_close_in_on_the_truth():
    widths = []
    for n in (100, 10_000, 1_000_000):
        bounds = difference_bounds([make_stage((n // 10, n), (n // 5, n))])
        assert bounds.low < 0.1 < bounds.high
        widths.append(bounds.high - bounds.low)
    assert widths[1] < widths[0] / 6
    assert widths[2] < widths[1] / 6


def test_without_answers_or_stages_nothing_is_known():
    for stages in ([], [make_stage((0, 0), (0, 0))], [make_stage((5, 10), (0, 0))]):
        bounds = difference_bounds(stages)
        assert (bounds.value, bounds.low, bounds.high) == (None, -1, 1)


def test_the_prior_is_a_distribution():
    """The likelihoods of all outcomes of a few answers, weighted by the prior, sum to one: so E starts at 1."""
    for prior in (_HARM_PRIOR, _NO_HARM_PRIOR):
        outcomes = [(a, 3 - a, c, 2 - c) for a in range(4) for c in range(3)]
        ways = [math.comb(3, a) * math.comb(2, c) for a, _, c, _ in outcomes]
        assert ways @ np.exp(prior.log_means(np.array(outcomes, dtype=float))) == pytest.approx(1)


# Simulations: seeded, of failures drawn at random, and no claim about any model


@pytest.mark.parametrize(
    ("champion", "canary", "share"),
    [(0.1, 0.1, 0.5), (0.3, 0.3, 0.25), (0.05, 0.25, 0.5), (0.4, 0.1, 0.5), (0.5, 0.55, 0.05)],
)
def test_both_bounds_hold_at_every_answer_in_nineteen_of_twenty_canaries(champion, canary, share):
    rng, runs, missed = np.random.default_rng(11), 120, [0, 0]
    for _ in range(runs):
        cells = simulate(rng, champion, canary, 1000, share)
        missed[0] += bool(low_above(cells, canary - champion).any())
        missed[1] += bool(high_below(cells, canary - champion).any())
    assert max(missed) <= ALPHA * runs


def test_an_ordinary_interval_fails_the_same_test():
    rng, runs, missed = np.random.default_rng(12), 120, 0
    for _ in range(runs):
        cells = simulate(rng, 0.3, 0.3, 1000)[20:]
        n, m = cells[:, :2].sum(axis=1), cells[:, 2:].sum(axis=1)
        p, q = cells[:, 0] / n, cells[:, 2] / m
        missed += bool((q - p > 1.645 * np.sqrt(p * (1 - p) / n + q * (1 - q) / m)).any())
    assert missed > 4 * ALPHA * runs


def test_the_bounds_hold_when_the_arm_is_chosen_by_what_happened_before():
    rng, runs, missed = np.random.default_rng(13), 60, 0
    for _ in range(runs):
        counts, history = np.zeros(4), []
        for draw, luck in rng.random((400, 2)):
            # As long as the canary looks worse it gets the next answer: the worst temptation.
            canary = observed(counts[None])[0] > 0 if draw < 0.8 else draw < 0.9
            counts[2 * canary + (luck >= 0.3)] += 1
            history.append(counts.copy())
        missed += bool(low_above(np.array(history), 0.0).any())
    assert missed <= ALPHA * runs


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.1, 0.2])
def test_twenty_points_more_failures_are_rolled_back_within_200_answers_in_the_median(rate):
    rng, delays = np.random.default_rng(14), []
    for number in range(101):
        cells = simulate(rng, rate, rate + 0.2, 600)
        delays.append(first(low_above(cells, 0.0)))
        if number < 3 and delays[-1] < NEVER:
            # What is counted here is what the monitor does.
            done, before = (judge_canary({"v": Signal([as_stage(cells[delays[-1] - back])])}) for back in (1, 2))
            assert (done.action, before.action) == ("roll_back", "continue")
    assert np.median(delays) <= 200


@pytest.mark.parametrize("rate", [0.3, 0.4])
def test_at_high_failure_rates_they_are_rolled_back_within_200_answers_of_the_canary(rate):
    rng, answers = np.random.default_rng(15), []
    for _ in range(101):
        cells = simulate(rng, rate, rate + 0.2, 1500)
        delay = first(low_above(cells, 0.0))
        answers.append(cells[delay - 1, 2:].sum() if delay < NEVER else NEVER)
    assert np.median(answers) <= 200


def test_a_canary_that_is_no_worse_is_promoted_and_hardly_ever_rolled_back():
    rng, promoted, rolled_back = np.random.default_rng(16), 0, 0
    for _ in range(40):
        cells = simulate(rng, 0.05, 0.05, 3000)
        good, bad = first(high_below(cells, 0.05)), first(low_above(cells, 0.0))
        promoted += good < bad
        rolled_back += bad < good
    assert promoted >= 36
    assert rolled_back <= 2


def test_a_canary_that_is_worse_by_the_margin_is_promoted_in_one_of_twenty_at_most():
    rng = np.random.default_rng(17)
    wrong = sum(high_below(simulate(rng, 0.1, 0.15, 2000), 0.05).any() for _ in range(100))
    assert wrong <= 5


def test_stages_are_not_fooled_by_traffic_that_changes_with_the_share():
    """Simpson's paradox: the canary's share and the failures of all traffic rise together; the arms are alike."""
    rng, pooled, staged = np.random.default_rng(18), 0, 0
    for _ in range(40):
        calm, rough = simulate(rng, 0.05, 0.05, 600, 0.05)[-1], simulate(rng, 0.4, 0.4, 600, 0.5)[-1]
        pooled += difference_bounds([as_stage(calm + rough)]).low > 0
        staged += difference_bounds([as_stage(calm), as_stage(rough)]).low > 0
    assert pooled >= 30
    assert staged <= 2


def test_stages_add_up_what_each_of_them_shows():
    stage = make_stage((6, 80), (19, 80))
    one, two = difference_bounds([stage]), difference_bounds([stage, stage])
    assert one.low < 0 < two.low


# The monitor


def test_a_canary_that_is_surely_worse_is_rolled_back_with_its_numbers():
    verdict = judge((5, 100), (30, 100))
    assert verdict.action == "roll_back"
    assert verdict.reasons[0].startswith("validator: the canary is worse by +0.250, at least +0.")
    assert verdict.bounds["validator"].low > 0


def test_a_canary_that_is_surely_no_worse_is_promoted_after_its_least_number_of_answers():
    assert judge((20, 2000), (20, 2000)).action == "promote"
    few = judge((0, 2000), (0, 199))
    assert few.action == "continue"
    assert few.reasons == ("the canary gave 199 answers; promotion needs 200",)


def test_what_is_uncertain_goes_on_and_says_what_it_waits_for():
    verdict = judge((10, 100), (11, 100))
    assert verdict.action == "continue"
    assert verdict.reasons[0].startswith("validator: the difference may still be +0.")


def test_an_undecided_canary_ends_by_a_rollback_for_nothing_was_shown():
    rules = CanaryRules(max_answers=300)
    assert judge((30, 299), (40, 299), rules).action == "continue"
    verdict = judge((30, 300), (40, 300), rules)
    assert verdict.action == "roll_back"
    assert verdict.reasons[0] == "undecided after 300 answers of the canary"
    assert judge((30, 300), (40, 300), CanaryRules(max_answers=None)).action == "continue"


def test_one_bad_signal_rolls_back_however_good_the_others_are():
    signals = {
        "validator": Signal([make_stage((20, 2000), (20, 2000))]),
        "thumbs_down": Signal([make_stage((2, 40), (25, 40))], margin=None),
    }
    verdict = judge_canary(signals)
    assert verdict.action == "roll_back"
    assert [reason.split(":")[0] for reason in verdict.reasons] == ["thumbs_down"]


def test_promotion_waits_for_every_signal_with_a_margin_and_for_no_other():
    good, rare = Signal([make_stage((20, 2000), (20, 2000))]), [make_stage((1, 10), (1, 10))]
    assert judge_canary({"validator": good, "thumbs_down": Signal(rare)}).action == "continue"
    assert judge_canary({"validator": good, "thumbs_down": Signal(rare, margin=None)}).action == "promote"
    nothing = judge_canary({"thumbs_down": Signal([make_stage((9, 2000), (9, 2000))], margin=None)})
    assert nothing.action == "continue"
    assert "no signal has a margin" in nothing.reasons[0]


def test_several_signals_share_the_probability_of_a_false_rollback():
    stage = make_stage((5, 55), (14, 55))
    alone = judge_canary({"a": Signal([stage])}).bounds["a"]
    both = judge_canary({"a": Signal([stage]), "b": Signal([stage])}).bounds["a"]
    assert both.low == pytest.approx(difference_bounds([stage], ALPHA / 2).low)
    assert both.low < alone.low
    assert both.high == alone.high


@pytest.mark.parametrize(("failures", "answers"), [(-1, 5), (6, 5), (0, -1)])
def test_counts_that_cannot_be_are_refused(failures, answers):
    with pytest.raises(InvalidRequest, match="count from 0"):
        ArmCounts(answers, failures)


@pytest.mark.parametrize(
    "rules",
    [
        {"alpha_roll_back": 0},
        {"alpha_promote": 1.0},
        {"alpha_promote": float("nan")},
        {"min_answers": 0},
        {"max_answers": 0},
    ],
)
def test_rules_out_of_range_are_refused_by_name(rules):
    with pytest.raises(InvalidRequest, match=next(iter(rules))):
        CanaryRules(**rules)


@pytest.mark.parametrize("margin", [0, 1, -0.1, float("nan")])
def test_a_margin_out_of_range_is_refused_and_so_is_a_canary_without_signals(margin):
    with pytest.raises(InvalidRequest, match="margin of 'validator'"):
        judge((1, 10), (1, 10), margin=margin)
    with pytest.raises(InvalidRequest, match="no signal"):
        judge_canary({})
