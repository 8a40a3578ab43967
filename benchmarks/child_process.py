"""What every benchmark that starts a server needs: an end that leaves no process behind."""

import contextlib
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

import psutil


def end(process: subprocess.Popen[Any], timeout_s: float, known: Sequence[psutil.Process] = ()) -> list[psutil.Process]:
    """Ends by pid all that ``process`` started: a forgotten one would ruin the next figure. Returns these processes.

    Args:
        timeout_s: How long it may take to end by itself after SIGINT; then it is killed.
        known: Of its processes, for one that may have ended before and left them.
    """
    family = list(known)
    with contextlib.suppress(psutil.Error):
        family += psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for member in family:
        with contextlib.suppress(psutil.Error):
            member.kill()
    return family
