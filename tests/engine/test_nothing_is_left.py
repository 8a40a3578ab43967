"""However the service ends, no process of it is left."""

import signal
from pathlib import Path

import psutil
import pytest

from tests.engine.service import Launched, launched

ENGINE = ("VLLM", "EngineCore")


def engine_processes(service: Launched) -> list[psutil.Process]:
    return [process for process in service.family if any(name in process.name() for name in ENGINE)]


@pytest.mark.timeout(600)  # a start, and Ray's own slow agents
@pytest.mark.parametrize("ending", ["sigterm", "sigkill of the launcher", "ray stop --force"])
def test_the_service_leaves_nothing_behind(ending: str, tmp_path: Path) -> None:
    with launched(tmp_path) as service:
        engine = engine_processes(service)
        assert len(engine) == 1, "scheduler and worker share a process on CPUs"
        match ending:
            case "sigterm":
                service.process.send_signal(signal.SIGTERM)
                assert service.process.wait(timeout=90) == 0
            case "sigkill of the launcher":
                service.process.kill()
            case "ray stop --force":
                # What that command does, on this cluster alone: SIGKILL for every process of Ray's, no word to theirs.
                for process in service.family:
                    if process not in engine and process.is_running():
                        process.kill()
        _, alive = psutil.wait_procs(engine, timeout=30)
        assert alive == []
        # Without a word to them, Ray's own two agents try to report to the dead control process for a minute first.
        assert service.left_over(timeout_s=200) == []
