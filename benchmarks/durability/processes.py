"""Child processes that can be killed at any moment: forked, so that one costs milliseconds, with a pipe to tell.

The parent must have no threads: a fork copies only the one that forks. So it imports much and computes nothing;
what reads a log runs in a child too.
"""

import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

Tell = Callable[[str], None]
"""Writes one line to the parent, at once; safe from any thread."""

_LONGEST_WAIT_S = 3600.0
_RESULT = "result "


class Child:
    """A forked process that runs ``work(tell)``; `lines` are what it told so far, in whole lines.

    If ``work`` raises, the last line is ``error`` and what it was; its traceback is on stderr.
    """

    def __init__(self, work: Callable[[Tell], None]) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            _run(work, writing)
        os.close(writing)
        self._pipe: int | None = reading
        self._rest = b""
        self.lines: list[str] = []
        self.killed = False
        """Whether it ended by our SIGKILL; known after `end`."""

    def listen(self, until_s: float, line: str | None = None) -> bool:
        """Take in what it tells until a moment of the monotonic clock, its end, or a line that begins so."""
        seen = 0
        while True:
            if line is not None and any(one.startswith(line) for one in self.lines[seen:]):
                return True
            seen = len(self.lines)
            left_s = until_s - time.monotonic()
            if self._pipe is None or left_s <= 0:
                return False
            if select.select([self._pipe], [], [], min(left_s, _LONGEST_WAIT_S))[0]:
                self._take()

    @property
    def running(self) -> bool:
        """Whether it may tell more."""
        return self._pipe is not None

    def signal(self, number: int) -> None:
        """Send a signal; the child is not reaped before `end`, so the number is still its own."""
        os.kill(self.pid, number)

    def wait_until_stopped(self) -> bool:
        """Return once it is stopped by a signal (true) or has ended (false)."""
        status = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        return status is not None and status.si_code == os.CLD_STOPPED

    def end(self) -> None:
        """Kill it, take in what it told before, reap it."""
        self.signal(signal.SIGKILL)
        while self._pipe is not None:
            self._take()
        _, status = os.waitpid(self.pid, 0)
        self.killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

    def result(self) -> Any:
        """Wait for its end and return what it told with `telling`.

        Raises:
            RuntimeError: It raised or died.
        """
        self.listen(float("inf"))
        self.end()
        for line in self.lines:
            if line.startswith(_RESULT):
                return pickle.loads(bytes.fromhex(line.removeprefix(_RESULT)))
        raise RuntimeError("a child process failed; its traceback is above")

    def _take(self) -> None:
        assert self._pipe is not None
        data = os.read(self._pipe, 1 << 16)
        if not data:
            os.close(self._pipe)
            self._pipe = None  # a last line cut short is no line
            return
        *whole, self._rest = (self._rest + data).split(b"\n")
        self.lines += [line.decode() for line in whole]


def telling(work: Callable[[], Any]) -> Callable[[Tell], None]:
    """Return the work of a child whose `Child.result` is what ``work`` returns; it must pickle."""
    return lambda tell: tell(_RESULT + pickle.dumps(work()).hex())


def in_child(work: Callable[[], Any]) -> Any:
    """Return what ``work`` returns in a process of its own.

    Raises:
        RuntimeError: It raised or died; its traceback is on stderr.
    """
    return Child(telling(work)).result()


def _run(work: Callable[[Tell], None], pipe: int) -> None:
    """The child's whole life; does not return."""

    def tell(line: str) -> None:
        data = line.encode() + b"\n"
        while data:
            data = data[os.write(pipe, data) :]

    code = 1
    try:
        work(tell)
        code = 0
    except BaseException as error:  # noqa: BLE001 - nothing may run on into the parent's code
        traceback.print_exc()
        sys.stderr.flush()
        tell(f"error {error!r}")
    finally:
        os._exit(code)
