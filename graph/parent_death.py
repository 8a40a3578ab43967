"""No child process outlives its replica, however the replica dies.

vLLM's engine core is a ``multiprocessing`` spawn child without a parent-death monitor: after ``ray stop --force`` it
lives on with its workers (https://github.com/vllm-project/vllm/issues/55510; delete `children_die_with_this_process`
when that is in the pinned version). Here the children are started through a wrapper that asks the kernel to kill them
with their parent (``PR_SET_PDEATHSIG``, prctl(2)), which survives ``exec`` and needs no process that could be killed
first.

The signal is tied to the *thread* that started the child: start the engine from a thread that lives as long as
the replica, such as the one that runs its event loop.
"""

import ctypes
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import spawn
from pathlib import Path

PR_SET_PDEATHSIG = 1
_PARENT = "RHEOSTAT_PARENT_PID"


def guarded(command: list[str]) -> tuple[list[str], dict[str, str]]:
    """The command and environment that run ``command`` (its first item an absolute path) until this thread ends."""
    environment = dict(os.environ)
    if sys.platform != "linux":
        return command, environment
    return [sys.executable, "-IS", __file__, *command], environment | {_PARENT: str(os.getpid())}


@contextmanager
def children_die_with_this_process() -> Iterator[None]:
    """Within the block, spawn children of this process are killed by the kernel when the calling thread ends.

    Python's resource tracker is left out: it cleans shared memory up after a killed parent. Other platforms than
    Linux get no guard (no effect).
    """
    if sys.platform != "linux":
        yield
        return
    before = spawn.get_executable()
    with tempfile.TemporaryDirectory(prefix="rheostat-") as folder:
        wrapper = Path(folder, "python")
        command = shlex.join([sys.executable, "-IS", __file__, sys.executable])
        wrapper.write_text(f'#!/bin/sh\n{_PARENT}={os.getpid()} exec {command} "$@"\n')
        wrapper.chmod(0o700)
        spawn.set_executable(str(wrapper))
        try:
            yield
        finally:
            spawn.set_executable(before)


def _exec_guarded(argv: list[str]) -> None:
    """Runs in the child, before Python starts for real: ask for the signal, then become the command."""
    if not any("resource_tracker" in argument for argument in argv):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The parent may have died before the signal was asked for.
        if os.getppid() != int(os.environ[_PARENT]):
            os._exit(1)
    os.environ.pop(_PARENT, None)
    os.execv(argv[0], argv)


if __name__ == "__main__":
    _exec_guarded(sys.argv[1:])
