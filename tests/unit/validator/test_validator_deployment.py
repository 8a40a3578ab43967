"""The pool's shell, as a plain class without Ray: start-up, a changed policy, models that fail, a stuck worker."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.validator import deployment
from deployments.validator.deployment import STUCK_AFTER_S, Validator
from graph.contracts import CHECK_FAILED, CheckContext, ValidationJob
from graph.errors import ConfigurationError, Unavailable
from tests.cluster import ROOT

GOOD = ValidationJob("Rain falls when warm air rises and cools. Clouds form out of tiny drops.", CheckContext())
SLOT = {"path": "none", "sha256": "0" * 64, "kind": "text", "label": "toxic", "at_most": 0.5, "on_fail": "block"}


def make_validator(file: Path = ROOT / "configs/quality.yaml") -> Any:
    made: Any = Validator.func_or_class
    return made({"engine": {"kind": "simulated"}, "quality_file": str(file)})


def slots(**changes: Any) -> dict[str, Any]:
    return {"models": {"toxicity": {**SLOT, **changes}}}


class Model:
    """In the place of a loaded one."""


async def with_a_model(monkeypatch: pytest.MonkeyPatch, answer: Any, **changes: Any) -> Any:
    """A validator with one slot whose model says ``answer``: a score, or an exception in the place of one."""
    monkeypatch.setattr(
        deployment, "load_slots", lambda models, *_: {name: (slot, Model()) for name, slot in models.items()}
    )
    validator = make_validator()
    validator.reconfigure({"quality": slots(**changes)})

    async def score(asked: Any) -> Any:
        assert asked[2] == GOOD.text
        return await answer() if callable(answer) else answer

    validator._score = score
    return validator


async def test_start_up_is_refused_with_a_required_model_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "quality.yaml"
    file.write_text(yaml.safe_dump(slots()))
    with pytest.raises(ConfigurationError, match=r"quality\.yaml: models\.toxicity\.path: got 'none'"):
        make_validator(file)
    validator = make_validator()
    with pytest.raises(ConfigurationError, match=r"user_config\.quality: models\.toxicity\.path"):
        validator.reconfigure({"quality": slots()})


@pytest.mark.parametrize("bad", [{"quality": slots()}, {"quality": {"chekcs": {}}}, {"qualty": {}}])
async def test_a_faulty_policy_leaves_a_running_replica_with_the_one_before_it(
    bad: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    validator = make_validator()
    validator.reconfigure({"quality": {"refusal_text": "No."}})
    await validator.check_health()
    before = validator._in_force
    with caplog.at_level(logging.ERROR):
        validator.reconfigure(bad)
    assert validator._in_force is before
    assert before.policy.refusal_text == "No."
    assert "refused" in caplog.text
    validator.reconfigure({})
    assert validator._in_force.policy.refusal_text != "No."


@pytest.mark.parametrize(("on_error", "action"), [("open", "deliver"), ("closed", "block")])
async def test_a_model_that_is_not_required_and_not_there_fails_by_its_on_error(on_error: str, action: str) -> None:
    validator = make_validator()
    validator.reconfigure({"quality": slots(required=False, on_error=on_error)})
    verdict = await validator.judge(GOOD)
    assert verdict.action == action
    (finding,) = verdict.findings
    assert (finding.check, finding.severity) == ("toxicity", "hard" if on_error == "closed" else "note")
    assert finding.message == f"{CHECK_FAILED}: its model is not loaded"


async def test_the_score_of_a_model_reaches_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await (await with_a_model(monkeypatch, 0.4)).judge(GOOD)).action == "deliver"
    verdict = await (await with_a_model(monkeypatch, 0.6)).judge(GOOD)
    assert verdict.action == "block"
    assert [finding.check for finding in verdict.findings] == ["toxicity"]


async def hang() -> float:
    await asyncio.Event().wait()
    return 0.0


@pytest.mark.parametrize(
    ("answer", "told"), [(ValueError("too long"), "ValueError"), (hang, "TimeoutError")], ids=["fails", "hangs"]
)
@pytest.mark.parametrize(("on_error", "action"), [("open", "deliver"), ("closed", "block")])
async def test_a_model_that_fails_or_hangs_costs_its_own_check_only(
    answer: Any, told: str, on_error: str, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "MODEL_TIMEOUT_S", 0.05)
    validator = await with_a_model(monkeypatch, answer, on_error=on_error)
    async with asyncio.timeout(60):
        verdict = await validator.judge(GOOD)
    assert verdict.action == action
    assert [finding.message for finding in verdict.findings] == [f"{CHECK_FAILED}: {told}"]


@pytest.mark.parametrize("worker", ["_judges", "_models"])
async def test_a_replica_whose_worker_is_stuck_says_that_it_is_unhealthy(
    worker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    validator = make_validator()
    monkeypatch.setattr(getattr(validator, worker), "busy_s", lambda: STUCK_AFTER_S)
    await validator.check_health()
    monkeypatch.setattr(getattr(validator, worker), "busy_s", lambda: STUCK_AFTER_S + 1)
    with pytest.raises(RuntimeError, match="has been running for 31 s"):
        await validator.check_health()


async def test_nobody_waits_for_a_judge_that_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    validator = make_validator()
    assert (await validator.judge(GOOD)).action == "deliver"
    monkeypatch.setattr(validator._judges, "busy_s", lambda: STUCK_AFTER_S + 1)
    with pytest.raises(Unavailable, match="stuck"):
        await validator.judge(GOOD)
