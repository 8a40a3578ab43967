"""A second Ray node on this machine, joined to the one that a running service has."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.contestants.process import temporary_folder

STOP_TIMEOUT_S = 30.0
_GCS = re.compile(r"--gcs-address=(\S+)")
_KEPT = ("RAY_", "RHEOSTAT_", "PYTHONPATH")
"""Of the first node's environment, beginnings of the names of what the second one has to share."""


@contextlib.contextmanager
def second_node(launcher_pid: int, cpus: int) -> Iterator[psutil.Process]:
    """Joined to the Ray below the process ``launcher_pid``; yields the process that all of the node's are below."""
    raylet = next(p for p in psutil.Process(launcher_pid).children(recursive=True) if p.name() == "raylet")
    found = _GCS.search(" ".join(raylet.cmdline()))
    assert found is not None
    shared = {name: value for name, value in raylet.environ().items() if name.startswith(_KEPT)}
    with temporary_folder() as folder:
        log = folder / "log"
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
        command += ["--address", found[1], "--node-ip-address", "127.0.0.1"]
        command += ["--num-cpus", str(cpus), "--object-store-memory", str(100 << 20)]
        with log.open("w") as said:
            node = subprocess.Popen(command, env={**os.environ, **shared}, stdout=said, stderr=subprocess.STDOUT)
        try:
            _wait_for_raylet(node, log)
            yield psutil.Process(node.pid)
        finally:
            family: list[psutil.Process] = []
            with contextlib.suppress(psutil.Error):
                family = psutil.Process(node.pid).children(recursive=True)
            node.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.wait(STOP_TIMEOUT_S)
            for process in family:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            node.kill()
            node.wait()


def _wait_for_raylet(node: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < until and node.poll() is None:
        if any(process.name() == "raylet" for process in psutil.Process(node.pid).children(recursive=True)):
            return
        time.sleep(0.2)
    raise RuntimeError(f"the second node did not start:\n{log.read_text()[-2000:]}")
