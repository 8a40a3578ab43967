import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, t

from deployments.feedback.analysis.statistics import wilson
from graph.errors import InvalidRequest
from training.gate import (
    AnswerFacts,
    GateRules,
    PairedOutcome,
    _student_quantile,
    decide,
    mean_difference,
    paired_difference,
    sign_test,
    win_rate,
)

VERDICTS = ("challenger", "champion", "tie")
WIN, LOSS, TIE = ("challenger",) * 2, ("champion",) * 2, ("tie",) * 2


def make_facts(**changes):
    return AnswerFacts(
        **({"passed": True, "refused": False, "words": 60, "token_s": 0.01, "control_fit": 0.8} | changes)
    )


def make_outcomes(verdicts, champion=None, challenger=None):
    """One prompt for each (champion_first, challenger_first); facts: one for all, or one for each prompt."""
    outcomes = []
    for number, (first, second) in enumerate(verdicts):
        facts = [side[number] if isinstance(side, list) else side or make_facts() for side in (champion, challenger)]
        outcomes.append(PairedOutcome(f"prompt-{number}", *facts, first, second))
    return outcomes


GOOD = [WIN] * 70 + [LOSS] * 20 + [TIE] * 30
"""A challenger that is better beyond doubt."""


def facts_of(count, total, **changes):
    """So many answers with these facts, the others as usual."""
    return [make_facts(**changes)] * count + [make_facts()] * (total - count)


def failed(decision):
    return [guard.name for guard in decision.guards if not guard.passed]


# The win rate


def test_a_challenger_that_wins_and_holds_every_guard_passes():
    decision = decide(make_outcomes(GOOD))
    assert decision.passed
    assert decision.reasons[0].startswith("win rate 0.708, surely above 0.6")
    assert (decision.prompts, decision.wins, decision.losses) == (120, 70, 20)
    assert decision.win_rate.value == pytest.approx((70 + 15) / 120)
    assert [guard.name for guard in decision.guards] == ["pass_rate", "refusals", "control_fit", "length", "latency"]


@pytest.mark.parametrize(
    ("champion_first", "challenger_first", "winner"),
    [
        ("challenger", "challenger", "challenger"),
        ("champion", "champion", "champion"),
        ("challenger", "champion", "tie"),
        ("champion", "challenger", "tie"),
        ("challenger", "tie", "challenger"),
        ("tie", "champion", "champion"),
        ("tie", "tie", "tie"),
    ],
)
def test_a_prompt_is_won_over_both_orders(champion_first, challenger_first, winner):
    (outcome,) = make_outcomes([(champion_first, challenger_first)])
    assert outcome.winner == winner


def test_a_judge_who_likes_the_first_place_decides_nothing():
    decision = decide(make_outcomes([("champion", "challenger")] * 500))
    assert not decision.passed
    assert (decision.wins, decision.losses, decision.win_rate.value, decision.order_agreement) == (0, 0, 0.5, 0)


def test_a_challenger_that_is_probably_better_does_not_pass_and_the_reason_has_the_numbers():
    decision = decide(make_outcomes([WIN] * 55 + [LOSS] * 45))
    assert not decision.passed
    assert decision.reasons == (
        "win rate 0.550 may be as low as 0.452 (sign test p = 0.184); it must be surely above 0.5: more prompts, or a "
        "better challenger",
    )


def test_ties_make_the_interval_shorter_and_count_half():
    assert win_rate(30, 10, 100).value == win_rate(60, 40, 100).value == 0.6
    assert win_rate(30, 10, 100).low > 0.5 > win_rate(58, 42, 100).low


@pytest.mark.parametrize("prompts", [0, 1, 59])
def test_too_few_prompts_never_pass(prompts):
    decision = decide(make_outcomes([WIN] * prompts))
    assert not decision.passed
    assert decision.reasons[0] == f"{prompts} held-out prompts; the win rate needs at least 60"
    assert all(f"measured on {prompts} prompts" in reason for reason in decision.reasons[1:])


def test_a_prompt_that_comes_twice_is_refused():
    with pytest.raises(InvalidRequest, match="'prompt-0' comes twice"):
        decide(make_outcomes([WIN]) * 2)


def test_the_order_of_prompts_does_not_matter():
    outcomes = make_outcomes(GOOD)
    assert decide(outcomes) == decide(outcomes[::-1])


@given(wins=st.integers(0, 80), losses=st.integers(0, 80), ties=st.integers(0, 80))
def test_the_win_rate_is_fair_to_both_and_holds_its_estimate(wins, losses, ties):
    n = wins + losses + ties
    rate, other = win_rate(wins, losses, n), win_rate(losses, wins, n)
    if n == 0:
        assert rate is None
        return
    assert 0 <= rate.low <= rate.value <= rate.high <= 1
    assert rate.value == pytest.approx(1 - other.value)
    assert rate.low == pytest.approx(1 - other.high)


@given(wins=st.integers(0, 60), losses=st.integers(0, 60))
def test_the_sign_test_is_the_exact_binomial_one(wins, losses):
    expected = binomtest(wins, wins + losses, alternative="greater").pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected)


# The guards


def test_equal_answers_hold_every_guard():
    assert failed(decide(make_outcomes(GOOD))) == []


@pytest.mark.parametrize(
    ("guard", "changes"),
    [
        ("pass_rate", {"passed": False}),
        ("refusals", {"refused": True}),
        ("control_fit", {"control_fit": 0.2}),
        ("length", {"words": 6000}),
        ("length", {"words": 0}),
        ("latency", {"token_s": 9.0}),
    ],
)
def test_what_gets_worse_stops_a_challenger_however_much_it_is_liked(guard, changes):
    decision = decide(make_outcomes(GOOD, challenger=facts_of(24, 120, **changes)))
    assert not decision.passed
    assert failed(decision) == [guard]
    (reason,) = decision.reasons
    assert reason.startswith(f"{guard}: ")
    assert "all of it must be" in reason


@pytest.mark.parametrize("changes", [{"passed": False}, {"refused": True}, {"control_fit": 0.2}, {"token_s": 9.0}])
def test_what_gets_better_stops_nobody(changes):
    assert decide(make_outcomes(GOOD, champion=facts_of(24, 120, **changes))).passed


def test_a_loss_within_the_margin_passes_if_there_are_prompts_enough_to_show_it():
    few = decide(make_outcomes(GOOD[::2], challenger=facts_of(1, 60, passed=False)))
    assert failed(few) == ["pass_rate"]
    assert decide(make_outcomes(GOOD * 4, challenger=facts_of(8, 480, passed=False))).passed


def test_a_guard_that_was_not_measured_does_not_pass_unless_it_is_switched_off():
    without = make_facts(control_fit=None)
    outcomes = make_outcomes(GOOD, without, without)
    decision = decide(outcomes)
    assert failed(decision) == ["control_fit"]
    assert decision.reasons == ("control_fit: measured on 0 prompts; it needs at least 60",)
    assert decide(outcomes, GateRules(control_fit_margin=None)).passed


def test_a_ratio_is_that_of_geometric_means():
    decision = decide(make_outcomes(GOOD, make_facts(words=59, token_s=0.02), make_facts(words=89, token_s=0.022)))
    by_name = {guard.name: guard for guard in decision.guards}
    assert by_name["length"].estimate.value == pytest.approx(1.5)
    assert by_name["latency"].estimate.value == pytest.approx(1.1, rel=1e-4)
    assert failed(decision) == ["length"]


def test_a_decision_goes_into_a_card_as_json():
    plain = decide(make_outcomes(GOOD)).as_json()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["passed"] is True
    assert plain["guards"][0]["estimate"].keys() == {"value", "low", "high"}


@pytest.mark.parametrize(
    ("level", "degrees"), [(level, d) for level in (0.9, 0.95, 0.975, 0.99) for d in (5, 9, 49, 500)]
)
def test_student_s_quantile_is_close_to_the_tables(level, degrees):
    assert _student_quantile(level, degrees) == pytest.approx(t.ppf(level, degrees), abs=2e-3)


def test_the_mean_s_interval_is_that_of_the_textbook():
    values = [float(v) for v in range(20)]
    estimate = mean_difference(values, 0.95)
    half = t.ppf(0.95, 19) * np.std(values, ddof=1) / math.sqrt(20)
    assert (estimate.low, estimate.high) == pytest.approx((9.5 - half, 9.5 + half))
    assert mean_difference([1.0], 0.95) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_facts(words=-1), "words is -1"),
        (lambda: make_facts(token_s=math.nan), "token_s is nan"),
        (lambda: make_facts(control_fit=1.5), "control_fit is 1.5"),
        (lambda: make_outcomes([("challenger", "both")]), "'both'; it must be one of"),
        (lambda: GateRules(min_prompts=9), "min_prompts is 9"),
        (lambda: GateRules(confidence=95), "confidence is 95"),
        (lambda: GateRules(guard_confidence=0.5), "guard_confidence is 0.5"),
        (lambda: GateRules(pass_rate_margin=0), "pass_rate_margin is 0"),
        (lambda: GateRules(latency_margin=math.nan), "latency_margin is nan"),
    ],
)
def test_facts_verdicts_and_rules_out_of_range_are_refused_by_name(make, message):
    with pytest.raises(InvalidRequest, match=message):
        make()


# Simulations: seeded, of verdicts drawn at random, and no claim about any model


def random_verdicts(rng, n, shares, fickle=0.0):
    """n prompts won, lost and tied with these shares; a fickle judge's second verdict is drawn anew."""
    first, second = rng.choice(3, n, p=shares), rng.choice(3, n, p=shares)
    second = np.where(rng.random(n) < fickle, second, first)
    return [(VERDICTS[a], VERDICTS[b]) for a, b in zip(first, second, strict=True)]


@pytest.mark.parametrize(
    ("n", "shares", "fickle"),
    [(60, (0.5, 0.5, 0.0), 0.0), (100, (0.5, 0.5, 0.0), 0.0), (100, (0.1, 0.1, 0.8), 0.0), (200, (0.3, 0.3, 0.4), 1.0)],
)
def test_random_labels_pass_in_one_of_twenty_runs_at_most(n, shares, fickle):
    rng, runs = np.random.default_rng(3), 600
    passed = sum(decide(make_outcomes(random_verdicts(rng, n, shares, fickle))).passed for _ in range(runs))
    assert passed <= 0.05 * runs
    # The guards hold here, so it is the win rate that stops them; and it is no gate that nothing can pass.
    better = random_verdicts(rng, n, (0.75, 0.05, 0.2))
    assert decide(make_outcomes(better)).passed


@pytest.mark.parametrize("n", [60, 200])
@pytest.mark.parametrize(
    "shares", [(0.5, 0.5, 0.0), (0.6, 0.4, 0.0), (0.3, 0.1, 0.6), (0.05, 0.05, 0.9), (0.8, 0.1, 0.1)]
)
def test_about_nineteen_of_twenty_intervals_of_the_win_rate_hold_the_true_one(n, shares):
    truth = (1 + shares[0] - shares[1]) / 2
    draws = np.random.default_rng(4).multinomial(n, shares, size=2000).tolist()
    held = np.mean([rate.low <= truth <= rate.high for rate in (win_rate(w, lost, n) for w, lost, _ in draws)])
    # Counts are whole numbers, so the share that is held goes up and down around 95% as in Wilson's interval (Brown,
    # Cai and DasGupta 2001). The decision does not rest on it alone: the sign test is exact.
    assert 0.93 <= held <= 0.975


def test_without_ties_the_interval_is_wilson_s():
    for wins, n in ((0, 60), (13, 60), (30, 60), (131, 200), (200, 200)):
        mine, wilsons = win_rate(wins, n - wins, n), wilson(wins, n)
        assert (mine.value, mine.low, mine.high) == pytest.approx((wilsons.value, wilsons.low, wilsons.high), abs=1e-6)


def test_at_its_bound_the_difference_is_just_rejected_as_by_mcnemar():
    # McNemar's statistic (gained - lost) / sqrt(gained + lost) of 25 and 9 is 2.744.
    z = (25 - 9) / math.sqrt(25 + 9)
    assert paired_difference(25, 9, 100, z).low == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("gained", "lost"), [(0.0, 0.05), (0.05, 0.1), (0.1, 0.15)])
def test_a_challenger_worse_by_the_margin_gets_past_the_guard_in_one_of_twenty_runs_at_most(gained, lost):
    rng, n, runs = np.random.default_rng(5), 200, 4000
    draws = rng.multinomial(n, (gained, lost, 1 - gained - lost), size=runs).tolist()
    passed = sum(paired_difference(up, down, n, 1.6449).low > -0.05 for up, down, _ in draws)
    # 5%, and the chance of 4,000 runs.
    assert passed <= 0.055 * runs
