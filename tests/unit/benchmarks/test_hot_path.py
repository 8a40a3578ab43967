"""CPU by process: what the table of `benchmarks.hot_path` says."""

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.hot_path import figures_of, name_of


def process(name: str, *command: str) -> Any:
    return SimpleNamespace(name=lambda: name, cmdline=lambda: list(command))


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (process("ray::ServeRepli", "ray::ServeReplica:rheostat:Ingress.handle_request"), "Ingress"),
        (process("ray::ServeContr", "ray::ServeController.run_control_loop"), "ServeController"),
        (
            process("python3.11", "python3.11", "-u", "/site-packages/ray/dashboard/dashboard.py", "--host=x"),
            "dashboard",
        ),
        (process("python", "python", "-c", "pass"), "python"),
        (process("haproxy", "haproxy", "-f", "haproxy.cfg"), "haproxy"),
    ],
)
def test_a_process_is_called_by_its_deployment_its_script_or_its_own_name(made: Any, name: str) -> None:
    assert name_of(made) == name


def test_cpu_is_told_for_an_answer_of_64_tokens_and_as_a_share_of_a_core() -> None:
    figures = figures_of({"engine": 0.1, "Ingress": 0.1}, 10.0, {"Ingress": 1.0, "engine": 9.0}, 10.0, 6400)
    assert figures["answers"] == 100
    assert figures["tokens_per_s"] == 640
    assert figures["idle_percent"] == 2
    assert list(figures["processes"]) == ["engine", "Ingress"], "the dearest first"
    assert figures["processes"]["Ingress"] == {"ms_an_answer": 10, "percent": 10, "idle_percent": 1}
