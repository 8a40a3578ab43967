"""Starts a server as a process of its own, waits until it answers, and ends it with all that it started."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx
import psutil

from benchmarks.child_process import end
from graph.settings import PROJECT_ROOT

START_TIMEOUT_S = 420.0
"""vLLM's first start with torch.compile takes 150 s on two cores."""
STOP_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers. Every process of it is ``pid`` or below it, or one of ``more_pids`` or below that."""

    url: str
    model: str
    """What requests have to name."""
    pid: int
    more_pids: tuple[int, ...] = ()

    def processes(self) -> list[psutil.Process]:
        roots = [psutil.Process(pid) for pid in (self.pid, *self.more_pids)]
        return [process for root in roots for process in (root, *root.children(recursive=True))]

    def cpu_s(self) -> float:
        """Seconds of CPU that its processes have taken so far; those that have ended are not in it."""
        return sum(seconds for _, seconds in self.cpu_of_processes())

    def cpu_of_processes(self) -> Iterator[tuple[psutil.Process, float]]:
        """Each of its processes with the seconds of CPU that it has taken so far."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                yield process, times.user + times.system


Starter = Callable[[], AbstractContextManager[Server]]


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Gone at the end. Its path is short: that of a socket in it may have 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="rheostat-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str], url: str, model: str, log: Path, ready: str = ""
) -> Iterator[Server]:
    """The server, from when it has said ``ready`` and ``/v1/models`` is answered with 200.

    Args:
        environment: Over this process's own.
        log: Takes what it says.

    Raises:
        RuntimeError: It did not start; holds the end of the log.
    """
    with log.open("w") as said:
        process = subprocess.Popen(
            command,
            cwd=PROJECT_ROOT,
            env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT), **environment},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_ready(process, f"{url}/v1/models", log, ready)
        yield Server(url, model, process.pid)
    finally:
        psutil.wait_procs(end(process, STOP_TIMEOUT_S), timeout=10)


def _wait_until_ready(process: subprocess.Popen[bytes], address: str, log: Path, ready: str) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(address, timeout=5, trust_env=False).status_code == 200 and ready in log.read_text():
                return
        time.sleep(0.5)
    code = process.poll()
    why = f"did not answer within {START_TIMEOUT_S:.0f} s" if code is None else f"ended with {code} before it answered"
    raise RuntimeError(f"{address} {why}:\n{log.read_text()[-4000:]}")


def end_on_signals() -> None:
    """SIGTERM and SIGHUP end this process as an error does: through every ``finally``."""

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, leave)
