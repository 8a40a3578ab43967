"""No engine process is left, however the process that started it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from tests.cluster import ROOT

STARTS_AN_ENGINE = """
import asyncio, sys
sys.path.insert(0, "ROOT")
from deployments.generator.model_store import resolve_model
from deployments.generator.vllm_engine import VllmEngine
from tests.cluster import shipped_config

async def main():
    settings = shipped_config()["applications"][0]["args"]["engine"]["vllm"]
    engine = VllmEngine(resolve_model(None), "m", settings["engine_args"], settings["environment"])
    await engine.start()
    print("up", flush=True)
    await asyncio.Event().wait()

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.fixture
def engine_owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    script = tmp_path_factory.mktemp("owner") / "owner.py"
    script.write_text(STARTS_AN_ENGINE.replace("ROOT", str(ROOT)))
    owner = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert owner.stdout is not None
    for line in owner.stdout:
        if line.strip() == "up":
            break
    yield owner
    if owner.poll() is None:
        owner.kill()
    owner.wait()


def test_sigkill_of_the_owner_takes_the_engine_and_its_workers_along(engine_owner: subprocess.Popen[str]) -> None:
    family = psutil.Process(engine_owner.pid).children(recursive=True)
    names = {process.name() for process in family}
    assert any("Engine" in name for name in names), names
    os.kill(engine_owner.pid, signal.SIGKILL)
    engine_owner.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []


def test_sigkill_of_the_engine_core_takes_its_workers_along(engine_owner: subprocess.Popen[str]) -> None:
    family = psutil.Process(engine_owner.pid).children(recursive=True)
    core = next(process for process in family if "EngineCore" in process.name())
    workers = core.children(recursive=True)
    core.kill()
    _, alive = psutil.wait_procs([core, *workers], timeout=30)
    assert alive == []
