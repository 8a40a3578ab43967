"""What the killed processes do: clients that write rows as fast as they are acknowledged, and compaction.

Each function runs in a forked child and tells its parent by lines: ``start``; ``ready`` once the writer is open;
``ack ID``, or ``known ID`` if the writer had the row already; ``close`` before it closes; ``end``; ``error TEXT`` for
what must never happen.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.durability.processes import Tell
from benchmarks.durability.rows import event_row
from deployments.feedback.compaction import compact
from deployments.feedback.segment_writer import RotationLimits
from deployments.feedback.writer import LogWriter
from graph.contracts import LogAck
from graph.errors import Unavailable

_BUSY_PAUSE_S = 0.001


@dataclass(frozen=True, slots=True)
class Load:
    """One life of a writer process. Client c sends its repeats, then ``NAME-c-0``, ``NAME-c-1``, ..."""

    name: str
    clients: int
    on_loop: bool
    """The clients are tasks of one event loop, not threads."""
    repeats: tuple[tuple[str, ...], ...]
    """By client: event_ids to send again, because no answer came or because it was lost."""
    rows: int
    """It closes by itself after so many acknowledgements."""
    max_rows: int
    """A segment is sealed after so many rows."""
    recent_rows: int
    """Event_ids that the writer remembers: few, so that repeats are written again."""
    queue_limit: int


class _Stopped(Exception):
    """The writer was closed or has failed: a client ends."""


def write_rows(root: Path, load: Load, tell: Tell) -> None:
    """Open the log, let all clients write, close it. Does not return before that."""
    tell("start")
    (_write_on_loop if load.on_loop else _write_in_threads)(root, load, tell)
    tell("end")


def compact_log(root: Path, tell: Tell) -> None:
    """Compact again and again, with small files."""
    for _ in count():
        tell("start")
        compact(root, max_file_rows=400)
        tell("end")


def _event_ids(load: Load, client: int) -> Iterator[str]:
    yield from load.repeats[client]
    yield from (f"{load.name}-{client}-{number}" for number in count())


def _open(root: Path, load: Load, tell: Tell, **options: Any) -> LogWriter:
    limits = RotationLimits(max_rows=load.max_rows, max_age_s=0.02)
    writer = LogWriter(root, limits=limits, recent_rows=load.recent_rows, queue_limit=load.queue_limit, **options)
    tell("ready")
    return writer


def _write_in_threads(root: Path, load: Load, tell: Tell) -> None:
    writer = _open(root, load, tell)
    left = threading.Semaphore(0)

    def client(number: int) -> None:
        try:
            for event_id in _event_ids(load, number):
                _tell_ack(_answer(writer, event_id), tell)
                left.release()
        except _Stopped:
            pass
        except Exception as error:  # noqa: BLE001 - told to the parent, which counts it as a failure
            tell(f"error {error!r}")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(load.clients)]
    for thread in threads:
        thread.start()
    for _ in range(load.rows):
        left.acquire()
    tell("close")
    writer.close()
    for thread in threads:
        thread.join()


def _answer(writer: LogWriter, event_id: str) -> LogAck:
    row = event_row(event_id)
    while True:
        try:
            ack: LogAck = writer.submit(row).result()
            return ack
        except Unavailable as error:
            _check_busy(error)
            time.sleep(_BUSY_PAUSE_S)


def _write_on_loop(root: Path, load: Load, tell: Tell) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        writer = _open(root, load, tell, new_future=loop.create_future, deliver=loop.call_soon_threadsafe)
        left = load.rows

        async def client(number: int) -> None:
            nonlocal left
            for event_id in _event_ids(load, number):
                if left <= 0:
                    return
                row = event_row(event_id)
                while True:
                    try:
                        ack = await writer.submit(row)
                        break
                    except Unavailable as error:
                        _check_busy(error)
                        await asyncio.sleep(_BUSY_PAUSE_S)
                _tell_ack(ack, tell)
                left -= 1

        try:
            await asyncio.gather(*map(client, range(load.clients)))
        except Exception as error:  # noqa: BLE001 - as above
            tell(f"error {error!r}")
        tell("close")
        writer.close()

    asyncio.run(run())


def _tell_ack(ack: LogAck, tell: Tell) -> None:
    tell(f"{'known' if ack.duplicate else 'ack'} {ack.event_id}")


def _check_busy(error: Unavailable) -> None:
    if "closed" in error.message:
        raise _Stopped
    if "busy" not in error.message:
        raise error
