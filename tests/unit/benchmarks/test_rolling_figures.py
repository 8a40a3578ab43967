"""The figures of the rolling change: what is changed, what counts as failed, and what is told as missed."""

from typing import Any

import pytest
import yaml

from benchmarks.rolling import figures_of, is_settled, missed, production_shape, with_code, with_settings
from benchmarks.streams import Answer
from graph.settings import PROJECT_ROOT, USER_CONFIGS, AppArgs


def shipped(name: str) -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / name).read_text())
    return value


def test_the_settings_change_nothing_that_restarts_a_replica() -> None:
    config = shipped("configs/serve/cpu.yaml")
    changed = with_settings(config)
    assert changed["applications"][0]["args"] == config["applications"][0]["args"]
    assert changed != config
    for deployment in changed["applications"][0]["deployments"]:
        USER_CONFIGS[deployment["name"]].model_validate(deployment.get("user_config", {}))


def test_the_code_is_changed_for_one_that_starts() -> None:
    config = shipped("configs/serve/cpu.yaml")
    changed = with_code(config)["applications"][0]["args"]
    assert AppArgs.model_validate(changed) != AppArgs.model_validate(config["applications"][0]["args"])


def test_the_production_shape_is_that_of_the_shipped_configuration() -> None:
    shape = production_shape(shipped("serve_config.yaml"))
    assert set(shape) == set(USER_CONFIGS)
    assert shape["Ingress"]["num_replicas"] == 2
    assert shape["Ingress"]["graceful_shutdown_timeout_s"] == 330
    assert shape["Generator"]["max_surge_percent"] == 100


def step(**more: Any) -> dict[str, Any]:
    return {"requests": 9, "failed": 0, "failures": {}, "replaced": {"Ingress": 0}, "kept": {"Ingress": 2}, **more}


def test_a_failed_request_a_restart_and_a_replica_that_stayed_are_told() -> None:
    code = step(replaced={"Ingress": 2}, kept={"Ingress": 0})
    assert missed({"steps": {"settings": step(), "code": code}}) == []
    failed = step(failed=2, failures={"Failed: 503": 2})
    assert len(missed({"steps": {"settings": failed, "code": code}})) == 1
    assert len(missed({"steps": {"settings": step(requests=0), "code": code}})) == 1
    assert len(missed({"steps": {"settings": step(replaced={"Ingress": 1}), "code": code}})) == 1
    assert len(missed({"steps": {"settings": step(), "code": step()}})) == 1


def test_a_request_belongs_to_the_change_that_it_was_sent_in_however_late_it_ends() -> None:
    answers = [
        Answer(0.5, 1.5, 40),
        Answer(0.9, 7.9, 40),
        Answer(0.7, 0.8, 0, failure="Failed: 503"),
        Answer(1.0, 2, 40),
    ]
    found = figures_of(answers, 0.0, 1.0)
    assert (found["requests"], found["failed"], found["failures"]) == (3, 1, {"Failed: 503": 1})
    assert found["slowest_s"] == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("status", "deployment", "replicas", "settled"),
    [
        ("RUNNING", "HEALTHY", ["RUNNING"], True),
        ("DEPLOYING", "HEALTHY", ["RUNNING"], False),
        ("RUNNING", "UPDATING", ["RUNNING"], False),
        ("RUNNING", "HEALTHY", ["RUNNING", "STOPPING"], False),
    ],
)
def test_it_is_settled_when_nothing_starts_or_stops(
    status: str, deployment: str, replicas: list[str], settled: bool
) -> None:
    states = [{"state": state} for state in replicas]
    application = {"status": status, "deployments": {"Ingress": {"status": deployment, "replicas": states}}}
    assert is_settled(application) == settled
