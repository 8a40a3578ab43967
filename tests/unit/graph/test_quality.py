"""The quality object of a text that was only judged."""

import itertools
from typing import Literal, get_args

import pytest

from graph.contracts import CHECK_FAILED, Finding, Verdict
from graph.quality import is_crash, outcome_of, quality_of_verdict, worth

Act = Literal["deliver", "fix", "regenerate", "fallback", "block"]
OUTCOMES = {"deliver": "pass", "fix": "fixed", "regenerate": "degraded", "fallback": "degraded", "block": "blocked"}
CRASH = Finding("language", "note", f"{CHECK_FAILED}: ValueError")
NOTE = Finding("refusal", "note", "it reads like a refusal")


@pytest.mark.parametrize(("action", "crashed"), itertools.product(get_args(Act), (False, True)))
def test_each_action_has_its_outcome_and_a_crash_leaves_only_what_is_worse(action: Act, crashed: bool) -> None:
    verdict = Verdict(action, (NOTE, CRASH) if crashed else (NOTE,), {"form": 0.33333}, 0.77777)
    quality = quality_of_verdict(verdict)
    outcome = "unvalidated" if crashed and action in ("deliver", "fix") else OUTCOMES[action]
    assert quality["outcome"] == outcome_of(verdict) == outcome
    assert quality["score"] == {"unvalidated": None, "blocked": 0}.get(outcome, 0.7778)
    assert quality["scores"] == {"form": 0.3333}


def test_only_a_note_of_a_check_that_raised_is_a_crash() -> None:
    assert is_crash(CRASH)
    assert not is_crash(NOTE)
    # A hard check that raises blocks; nothing of the text was left unjudged in silence.
    assert not is_crash(Finding("secrets", "hard", CRASH.message))


def test_a_text_that_is_only_judged_has_the_outcome_of_its_last_resort() -> None:
    assert outcome_of(Verdict("regenerate", last_resort="block")) == "blocked"
    assert quality_of_verdict(Verdict("regenerate", last_resort="block"))["score"] == 0
    assert outcome_of(Verdict("regenerate", last_resort="fallback")) == "degraded"


@pytest.mark.parametrize("action", ["deliver", "fix"])
def test_what_is_still_wrong_after_the_fixes_is_degraded(action: Act) -> None:
    verdict = Verdict(action, (NOTE,), is_degraded=True)
    assert outcome_of(verdict) == "degraded"
    assert worth(Verdict("regenerate")) < worth(verdict) < worth(Verdict("fix", score=0.1))
