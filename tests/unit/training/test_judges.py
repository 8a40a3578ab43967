"""The judges: what is a tie, and by what each of them compares."""

from dataclasses import replace

import numpy as np

from tests.unit.training.judge_support import QUICK, Answer, compare, make_votes
from training.judge_fit import fit_judge
from training.judges import ScoreJudge


def test_answers_that_are_nearly_as_good_are_a_tie():
    judge, _ = fit_judge(make_votes(np.random.default_rng(2), 80), QUICK)
    text = "The river turns slowly. And so it is?"
    assert compare(judge, Answer(text), Answer(text)) == ("tie", "tie")
    assert compare(judge, Answer(text), Answer(text.replace("slowly", "under"))) == ("tie", "tie")
    assert compare(replace(judge, margin=1e9), Answer("No."), Answer("Yes?")) == ("tie", "tie")


def test_the_score_judge_compares_the_validators_scores():
    assert compare(ScoreJudge(), Answer("a", 0.7), Answer("b", 0.9)) == ("challenger", "challenger")
    assert compare(ScoreJudge(), Answer("a", 0.9), Answer("b", 0.7)) == ("champion", "champion")
    assert compare(ScoreJudge(), Answer("a", 0.9), Answer("b", 0.91)) == ("tie", "tie")
    assert compare(ScoreJudge(), Answer("a", 0.9), Answer("b", None)) == ("tie", "tie")
