"""``make serve``'s own launcher as a child of the tests, on a free port and a data folder of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from graph.free_ports import free_port
from tests.cluster import ROOT, shipped_config


@dataclass(frozen=True)
class Launched:
    """A running service. ``family`` is every process below the launcher once it was ready."""

    url: str
    data_dir: Path
    process: subprocess.Popen[str]
    family: list[psutil.Process]
    said: list[str]

    def interrupt(self) -> int:
        """Ctrl-C; returns the launcher's exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=90)

    def left_over(self, timeout_s: float = 60) -> list[str]:
        """Names of processes that are still there after ``timeout_s``; waits no longer than needed."""
        _, alive = psutil.wait_procs(self.family, timeout=timeout_s)
        names = []
        for process in alive:
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    names.append(f"{process.pid} {process.name()}")
        return names


@contextlib.contextmanager
def launched(folder: Path) -> Iterator[Launched]:
    """The shipped CPU configuration, real engine and model; killed at the end if a test left it running."""
    config = shipped_config(data_dir=str(folder / "data"))
    port = free_port()
    config["http_options"] = {"host": "127.0.0.1", "port": port}
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(config))
    # Short, for Ray puts sockets there; ours, for a launcher that is killed cannot clean up.
    temp = tempfile.mkdtemp(prefix="t-", dir="/tmp")
    process = subprocess.Popen(
        [sys.executable, "-m", "graph.launch", "--config", str(path), "--dashboard-port", str(free_port())],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "200", "TMPDIR": temp},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said: list[str] = []
    family: list[psutil.Process] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.rstrip())
            if line.startswith("ready "):
                break
        assert any(line.startswith("ready ") for line in said), "\n".join(said)
        family = psutil.Process(process.pid).children(recursive=True)
        yield Launched(f"http://127.0.0.1:{port}", folder / "data", process, family, said)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for descendant in family:
            with contextlib.suppress(psutil.Error):
                descendant.kill()
        shutil.rmtree(temp, ignore_errors=True)
