"""Runs the log's heavy work (compaction, shipping, reports) in a process of its own, and its chores for ever.

The writer's process must answer in milliseconds; a report takes seconds and hundreds of megabytes. A process of its own
has its own interpreter and gives all memory back. It is ended when whoever asked goes away, and it dies with its
replica. No Ray here; the FeedbackLog deployment calls it.
"""

import asyncio
import contextlib
import json
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from graph.errors import InternalError, RheostatError, Unavailable
from graph.parent_death import guarded
from graph.settings import PROJECT_ROOT

logger = logging.getLogger(__name__)
AFTER_FAILURE_S = 1.0
BUSY_EXIT = 3
"""Exit status of a job that found another of its kind at work."""


async def run_job(module: str, *arguments: str, timeout_s: float) -> dict[str, Any]:
    """The JSON object that ``python -m module arguments`` prints.

    Call it from a thread that lives as long as the process: the job ends with it.

    Raises:
        Unavailable: It did not end in time, or another of its kind is at work.
        InternalError: It failed; its last words are logged.
    """
    command, environment = guarded([sys.executable, "-m", module, *arguments])
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=PROJECT_ROOT,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate()
    except TimeoutError:
        raise Unavailable(f"{module} did not end within {timeout_s:g} s; try again later.", code="not_ready") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            await process.wait()
    if process.returncode == BUSY_EXIT:
        raise Unavailable(f"Another {module} is at work; try again later.", code="not_ready")
    if process.returncode != 0:
        logger.error("%s ended with %s: %s", module, process.returncode, err.decode(errors="replace")[-2000:])
        raise InternalError(f"{module} failed; its reason is in the log.")
    answer: dict[str, Any] = json.loads(out)
    return answer


async def do_for_ever(chore: Callable[[], Awaitable[None]], pause_s: float) -> None:
    """Does ``chore`` again and again, with a pause between; a failure is logged and ends nothing."""
    while True:
        try:
            await chore()
        except RheostatError as error:
            logger.warning("a chore of the log was not done and is tried again: %s", error.message)
        except Exception:
            logger.exception("a chore of the log failed and is tried again")
            await asyncio.sleep(AFTER_FAILURE_S)
        await asyncio.sleep(pause_s)
