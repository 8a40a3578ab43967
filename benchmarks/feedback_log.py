"""How many durable acknowledgements a second does the log give, beside SQLite and beside one fsync per event?

    python -m benchmarks.feedback_log [--clients 1 8 64] [--seconds 3] [--rounds 3] [--json OUT]

Every side gets the same events from the same asyncio clients: each has an event's row built, submits it and waits
for the acknowledgement before it sends the next. Every side acknowledges only what was synced to the disk, and works
on one thread of its own. One variable changes, the storage:

- rheostat: the log's writer (Arrow IPC, checksums, group commit without a linger).
- sqlite, a commit per event: WAL, synchronous=FULL, event_id as primary key, the row as JSON.
- sqlite, batched: the same, one commit for all that is queued.
- file, fsync per event: a JSON line and an fdatasync each.

Rounds are interleaved; the first round is thrown away. The folder must be on a disk, not in memory.
"""

import argparse
import asyncio
import json
import os
import queue
import random
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.record import quantile, write_record
from deployments.feedback.schema import to_row
from deployments.feedback.writer import LogWriter

MOST_PER_S = 60_000
"""Events a second that are prepared, of all clients: more than any side takes."""


class Side(Protocol):
    """One storage under test."""

    def submit(self, row: dict[str, Any]) -> "asyncio.Future[Any]": ...
    def close(self) -> None: ...


class OneThread:
    """Hands rows to ``commit`` on one thread, all that is queued or one at a time, and resolves their futures."""

    def __init__(self, open_: Callable[[], Callable[[list[dict[str, Any]]], None]], batched: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[tuple[dict[str, Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._open = open_
        self._batched = batched
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def submit(self, row: dict[str, Any]) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put((row, future))
        return future

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        commit = self._open()
        while (first := self._queue.get()) is not None:
            group = [first]
            while self._batched and not self._queue.empty():
                one = self._queue.get()
                if one is None:
                    self._queue.put(None)
                    break
                group.append(one)
            commit([row for row, _ in group])
            self._loop.call_soon_threadsafe(_resolve, [future for _, future in group])


def _resolve(futures: list["asyncio.Future[Any]"]) -> None:
    for future in futures:
        future.set_result(None)


def _rheostat(folder: Path) -> Side:
    loop = asyncio.get_running_loop()
    return LogWriter(folder / "log", new_future=loop.create_future, deliver=loop.call_soon_threadsafe)


def _sqlite(folder: Path, batched: bool) -> Side:
    def open_() -> Callable[[list[dict[str, Any]]], None]:
        database = sqlite3.connect(folder / "events.db", isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE events (event_id TEXT PRIMARY KEY, row TEXT NOT NULL)")

        def commit(rows: list[dict[str, Any]]) -> None:
            database.execute("BEGIN")
            database.executemany(
                "INSERT INTO events VALUES (?, ?)", [(row["event_id"], json.dumps(_filled(row))) for row in rows]
            )
            database.execute("COMMIT")

        return commit

    return OneThread(open_, batched)


def _file(folder: Path) -> Side:
    def open_() -> Callable[[list[dict[str, Any]]], None]:
        fd = os.open(folder / "events.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)

        def commit(rows: list[dict[str, Any]]) -> None:
            for row in rows:
                os.write(fd, json.dumps(_filled(row)).encode() + b"\n")
                os.fdatasync(fd)

        return commit

    return OneThread(open_, batched=False)


def _filled(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


SIDES: dict[str, Callable[[Path], Side]] = {
    "rheostat": _rheostat,
    "sqlite, batched": lambda folder: _sqlite(folder, batched=True),
    "sqlite, a commit per event": lambda folder: _sqlite(folder, batched=False),
    "file, fsync per event": _file,
}


def event(rng: random.Random) -> dict[str, Any]:
    """What POST /v1/feedback makes of a thumb, some with a comment, before `to_row`."""
    return {
        "event_id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "kind": "thumb",
        "generation_id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "tenant": "acme",
        "name": "thumb",
        "value_bool": rng.random() < 0.8,
        "text": "The second paragraph answers something that I did not ask." if rng.random() < 0.2 else None,
        "source_type": "human",
        "model": "smollm2-135m-instruct",
        "controls_hash": "3eb8f05cb5335472",
        "ts_server_us": 1_700_000_000_000_000 + rng.randrange(10**9),
    }


async def run_side(make: Callable[[Path], Side], clients: int, seconds: float, folder: Path) -> dict[str, float]:
    """Events per second and latencies in milliseconds of one side for ``seconds``."""
    side = make(folder)
    waits_s: list[float] = []
    # What clients send is made before the clock starts: it is their cost, not the log's.
    most = int(seconds * MOST_PER_S / clients)
    sent = [[event(rng) for _ in range(most)] for rng in map(random.Random, range(clients))]
    until = time.perf_counter() + seconds

    async def client(number: int) -> None:
        for fields in sent[number]:
            if time.perf_counter() >= until:
                return
            began = time.perf_counter()
            await side.submit(to_row(fields))
            waits_s.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    took_s = time.perf_counter() - began
    await asyncio.to_thread(side.close)
    return {
        "events_per_s": len(waits_s) / took_s,
        "p50_ms": quantile(waits_s, 0.5) * 1e3,
        "p99_ms": quantile(waits_s, 0.99) * 1e3,
    }


@contextmanager
def _folder(root: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rheostat-bench-", dir=root) as folder:
        yield Path(folder)


def run(clients: list[int], seconds: float, rounds: int, root: Path | None) -> list[dict[str, Any]]:
    """One figure set for each number of clients and side: the median of all rounds but the first."""
    found: dict[tuple[int, str], list[dict[str, float]]] = {}
    steps = [(round_, count, name) for round_ in range(rounds + 1) for count in clients for name in SIDES]
    for round_, count, name in track(steps, "measuring", console=Console(stderr=True), transient=True):
        with _folder(root) as folder:
            figures = asyncio.run(run_side(SIDES[name], count, seconds, folder))
        if round_:
            found.setdefault((count, name), []).append(figures)
    return [
        {
            "clients": count,
            "side": name,
            **{key: round(statistics.median(one[key] for one in all_), 2) for key in all_[0]},
        }
        for (count, name), all_ in found.items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.feedback_log", description=__doc__.split("\n")[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write; default: the system's folder for temporary files")
    parser.add_argument("--json", type=Path, help="write the figures, versions and machine here")
    options = parser.parse_args()
    figures = run(options.clients, options.seconds, options.rounds, options.folder)
    if options.json:
        configuration = {"clients": options.clients, "seconds": options.seconds, "rounds": options.rounds}
        write_record(options.json, "feedback_log", configuration, figures, sqlite=sqlite3.sqlite_version)
    best = {one["clients"]: one["events_per_s"] for one in figures if one["side"] == "rheostat"}
    table = Table(title="durable acknowledgements, rows built in the timed part")
    for column in ("clients", "side", "events/s", "rheostat is", "p50 ms", "p99 ms"):
        table.add_column(column, justify="left" if column == "side" else "right")
    for one in figures:
        times = f"{best[one['clients']] / one['events_per_s']:.1f} x"
        values = (one["clients"], one["side"], f"{one['events_per_s']:,.0f}", times, one["p50_ms"], one["p99_ms"])
        table.add_row(*map(str, values), end_section=one["side"] == list(SIDES)[-1])
    Console(width=100).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
