"""The learned judge: what it learns, when it refuses, and that shuffled labels teach it nothing. Texts are made up."""

import json
from dataclasses import replace

import numpy as np
import pytest

from graph.errors import InvalidRequest
from tests.unit.training.judge_support import QUICK, Answer, compare, make_text, make_votes
from training.answer_features import FEATURES
from training.gate import AnswerFacts, GateRules, PairedOutcome, decide
from training.judge_fit import JudgeRules, Vote, _Design, fit_judge, one_vote_each
from training.judges import FeedbackJudge

FACTS = AnswerFacts(passed=True, refused=False, words=60, token_s=0.01, control_fit=0.8)


# What it learns


@pytest.mark.parametrize(("count", "pair_share"), [(60, 0.0), (60, 0.4), (60, 1.0), (120, 0.0)])
def test_a_planted_preference_is_found_named_and_used(count, pair_share):
    rng = np.random.default_rng(count)
    found = 0
    for seed in range(10):
        judge, report = fit_judge(make_votes(rng, count, pair_share=pair_share), QUICK, seed)
        found += report.accepted
        if judge is not None:
            assert report.auc.low > 0.5
            assert report.p_value <= 0.01
            assert any("end with a question: +" in weight.words for weight in report.weights[:3])
            asking, telling = Answer(make_text(rng, "?")), Answer(make_text(rng, "."))
            assert compare(judge, telling, asking) == ("challenger", "challenger")
            assert compare(judge, asking, telling) == ("champion", "champion")
    assert found == 10


def test_equal_votes_in_any_order_give_the_same_judge():
    votes = make_votes(np.random.default_rng(1), 60, pair_share=0.3)
    assert fit_judge(votes, QUICK, 5) == fit_judge(votes[::-1], QUICK, 5)


def test_the_report_goes_into_a_card_as_json():
    _, report = fit_judge(make_votes(np.random.default_rng(3), 60), QUICK)
    plain = report.as_json()
    assert json.loads(json.dumps(plain)) == json.loads(json.dumps(plain, allow_nan=False))
    assert {weight["feature"] for weight in plain["weights"]} == set(FEATURES)


# When it refuses


def test_shuffled_labels_teach_it_nothing():
    rng, runs = np.random.default_rng(5), 100
    accepted = [
        fit_judge(make_votes(rng, 60 + 30 * (run % 2), noise=0.5, pair_share=0.3 * (run % 3)), QUICK, run)[0]
        for run in range(runs)
    ]
    assert sum(judge is not None for judge in accepted) <= 0.02 * runs


def test_without_a_preference_the_reason_has_the_numbers():
    judge, report = fit_judge(make_votes(np.random.default_rng(6), 61, noise=0.5), QUICK)
    assert judge is None
    assert report.reason.startswith("the held-out feedback does not say what people like: AUC 0.")
    assert "on 61 rows" in report.reason


def test_a_lucky_interval_alone_is_not_enough(monkeypatch):
    monkeypatch.setattr("training.judge_fit._Design.permutation_p", lambda *_: 0.02)
    judge, report = fit_judge(make_votes(np.random.default_rng(7), 60), QUICK)
    assert judge is None
    assert "shuffled labels do as well in 2.0% of cases; at most 1% are allowed" in report.reason


def test_a_lucky_permutation_test_alone_is_not_enough(monkeypatch):
    monkeypatch.setattr("training.judge_fit._Design.permutation_p", lambda *_: 0.002)
    judge, report = fit_judge(make_votes(np.random.default_rng(6), 61, noise=0.5), QUICK)
    assert judge is None
    assert report.auc.low < 0.5
    assert report.reason.endswith("the interval must lie above 0.5")


def test_votes_on_few_prompts_give_no_judge():
    votes = [
        replace(vote, group=f"{n % 4}") for n, vote in enumerate(make_votes(np.random.default_rng(8), 60, raters=60))
    ]
    assert "the 60 held-out votes are on 4 different prompts; a judge needs 5" in fit_judge(votes)[1].reason


def test_few_votes_or_votes_of_one_kind_give_no_judge():
    votes = make_votes(np.random.default_rng(8), 40)
    assert "has 19 votes, one a rater and prompt; a judge needs 20" in fit_judge(votes[:19])[1].reason
    liked = [replace(vote, liked=True) for vote in votes]
    assert fit_judge(liked)[1].reason.startswith("all 40 held-out answers are liked")


def test_answers_without_any_difference_give_no_judge():
    votes = [Vote(f"e{n}", f"r{n}", f"g{n}", "Why?", "So.", liked=bool(n % 2)) for n in range(60)]
    judge, report = fit_judge(votes, QUICK)
    assert judge is None
    assert report.auc.value == 0.5


# Who votes


def test_a_rater_has_one_vote_a_prompt_group_and_a_pair_says_more_than_a_thumb():
    thumb, pair = Vote("a", "ann", "g", "Why?", "So."), Vote("b", "ann", "g", "Why?", "So.", "Thus.")
    bob, other = replace(thumb, event_id="c", rater="bob"), replace(thumb, event_id="d", group="h")
    kept = one_vote_each([thumb, pair, bob, other], 100)
    assert {vote.event_id for vote in kept} == {"b", "c", "d"}
    assert kept == one_vote_each([other, bob, pair, thumb], 100)
    assert len(one_vote_each([thumb, bob, other], 2)) == 2


def test_one_loud_rater_does_not_decide_what_people_like():
    rng = np.random.default_rng(9)
    votes = make_votes(rng, 60)
    # As many votes as all the others together, and the opposite taste.
    loud = [
        replace(vote, event_id=f"loud-{vote.event_id}", rater="loud", group=f"loud-{vote.group}", liked=not vote.liked)
        for vote in make_votes(rng, 60)
    ]
    judge, _ = fit_judge([*votes, *loud], QUICK)
    assert judge is not None
    assert compare(judge, Answer(make_text(rng, ".")), Answer(make_text(rng, "?"))) == ("challenger", "challenger")


# The rules


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_votes": 9}, "min_votes is 9"),
        ({"p_value": 0}, "p_value is 0"),
        ({"permutations": 98}, "takes at least 99"),
        ({"confidence": 95}, "confidence is 95"),
        ({"ridge": 0}, "ridge is 0"),
        ({"rater_share": 2}, "rater_share is 2"),
    ],
)
def test_rules_out_of_range_are_refused_by_name(changes, message):
    with pytest.raises(InvalidRequest, match=message):
        JudgeRules(**changes)


# The whole decision: judge and win rate


def gate_passes(votes, rng, challenger_asks, seed):
    """A challenger whose answers end with a question in this share of cases, against a champion's 30%."""
    judge, _ = fit_judge(votes, QUICK, seed)
    if judge is None:
        return False
    outcomes = []
    for number in range(80):
        champion, challenger = (
            Answer(make_text(rng, "?" if rng.random() < share else ".")) for share in (0.3, challenger_asks)
        )
        outcomes.append(PairedOutcome(f"prompt-{number}", FACTS, FACTS, *compare(judge, champion, challenger)))
    return decide(outcomes, GateRules()).passed


def test_a_challenger_that_learned_what_people_like_passes_and_one_on_shuffled_labels_does_not():
    rng = np.random.default_rng(10)
    assert sum(gate_passes(make_votes(rng, 80), rng, 0.8, seed) for seed in range(10)) >= 9
    assert sum(gate_passes(make_votes(rng, 80), rng, 0.3, seed) for seed in range(10)) <= 1
    assert sum(gate_passes(make_votes(rng, 80, noise=0.5), rng, 0.8, seed) for seed in range(40)) <= 2


def test_many_resamples_at_once_say_what_each_says_alone():
    rng = np.random.default_rng(12)
    design = _Design(make_votes(rng, 40, noise=0.3, pair_share=0.4), QUICK, 0)
    scores, weights = rng.integers(-3, 4, 40).astype(float), rng.integers(0, 3, (20, 40)).astype(float)
    one_by_one = [design.concordance(scores, design.labels, each) for each in weights]
    assert design._resampled(scores, weights).tolist() == pytest.approx(one_by_one)


def test_the_learned_judge_is_plain_data():
    judge, _ = fit_judge(make_votes(np.random.default_rng(11), 60), QUICK)
    assert isinstance(judge, FeedbackJudge)
    assert len(judge.weights) == len(judge.mean) == len(judge.scale) == len(FEATURES)
    assert np.isfinite(judge.weights).all()
