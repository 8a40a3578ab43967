"""The log's writer: a row's future resolves once the row is on disk, and never before.

One thread commits groups: it takes all that is queued, writes it as one batch, syncs once, then resolves all
futures. There is no linger: while a sync runs the next group piles up by itself, and a fixed wait of 2 ms
measured less than half as fast.

What it promises:

- a future that resolved survives kill -9 and a power cut (as far as the device's fdatasync tells the truth);
- nothing accepted is dropped: a full queue refuses at once, and ``accepted == written + failed + pending``;
- the first failed write or sync is the last: no retry on the same file, all waiting and later rows fail.
  Their outcome is then unknown, not undone; a retry with the same event_id is harmless.

It owns its thread and its segments. It knows nothing of HTTP, tokens or what an event means.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa  # type: ignore[import-untyped]

from deployments.feedback.archive import read_newest_ids
from deployments.feedback.directory import RecoveryReport, claim_epoch, read_segments, recover
from deployments.feedback.files import FileLayer, LocalFiles, ensure_directory
from deployments.feedback.schema import to_batch, whole
from deployments.feedback.segment_writer import RotationLimits, SegmentFacts, SegmentWriter, should_rotate
from graph.contracts import LogAck
from graph.errors import Conflict, InternalError, RequestTooLarge, Unavailable


@dataclass(slots=True)
class LogStats:
    """Counters since start-up. ``accepted == written + failed + pending`` at any moment."""

    accepted: int = 0
    """Rows taken into the queue."""
    written: int = 0
    """Rows on disk and acknowledged."""
    failed: int = 0
    """Rows that a failed write or sync took down."""
    pending: int = 0
    """Rows queued or being written."""
    duplicates: int = 0
    """Repeats of an accepted row, answered with its acknowledgement; not in ``accepted``."""
    refused: int = 0
    """Rows never accepted: queue full, too large, other content under a known event_id, or stopped."""
    syncs: int = 0
    last_sync_s: float = 0.0
    """How long the latest fdatasync took."""


_LONG_TEXTS = ("text", "prompt", "answer", "controls", "quality", "extra")
"""Columns whose size no contract bounds to a few hundred characters."""
_DOES_NOT_FIT = (TypeError, ValueError, OverflowError)
"""What `schema.to_batch` raises; Arrow's own errors are TypeError or ValueError too."""


class Promise(Protocol):
    """A future, of a thread or of an event loop."""

    def done(self) -> bool: ...
    def set_result(self, result: LogAck, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Commit:
    """One group that is on disk now; for metrics."""

    rows: int
    sync_s: float
    """How long the fdatasync took."""
    waited_s: float
    """How long the group's first row waited, from submit until its acknowledgement."""


@dataclass(slots=True)
class _Waiting:
    row: Mapping[str, Any]
    size_bytes: int
    future: Promise
    since_s: float
    followers: list[Promise] = field(default_factory=list)
    """Repeats that came while the row was on its way to disk."""


class LogWriter:
    """Appends rows durably; safe to call from any thread.

    Construction blocks: it recovers what earlier incarnations left, and reads the newest segments to know
    recent event_ids again.

    Args:
        directory: Root of the log, on a local file system; made if missing. Other live writers may share it.
        queue_limit: Rows that may wait for the disk at once, those being written included; >= 1.
        limits: When a segment is sealed.
        clock: Monotonic seconds.
        files: Where writes go; None: the real file system.
        queue_bytes: Bytes of text that may wait at once; a larger row is refused for good.
        recent_rows: How many acknowledged event_ids are remembered, across restarts too. Beyond them a repeat
            is written again, and readers drop it by its event_id.
        writer_id: None: a new random one.
        new_future: Makes the future of each row; None: one for threads, that nobody can cancel.
        deliver: Runs what resolves a group's futures. Default: at once, in the writer's thread. For futures of
            an event loop: its ``call_soon_threadsafe``, so that a group crosses over to it once.
        on_commit: Told of each group, in the writer's thread; must not raise.

    Raises:
        OSError: The directory cannot be written or read.
    """

    def __init__(
        self,
        directory: Path,
        *,
        queue_limit: int = 10_000,
        limits: RotationLimits = RotationLimits(),  # noqa: B008 - frozen
        clock: Callable[[], float] = time.monotonic,
        files: FileLayer | None = None,
        queue_bytes: int = 64 * 2**20,
        recent_rows: int = 65_536,
        writer_id: str | None = None,
        new_future: Callable[[], Promise] | None = None,
        deliver: Callable[[Callable[[], None]], object] | None = None,
        on_commit: Callable[[Commit], None] | None = None,
    ) -> None:
        self._new_future = new_future or _uncancellable
        self._deliver = deliver or _at_once
        self._on_commit = on_commit
        self._queue_limit = queue_limit
        self._queue_bytes = queue_bytes
        self._recent_rows = recent_rows
        self._limits = limits
        self._clock = clock
        files = files or LocalFiles()
        ensure_directory(directory, files)
        self.recovered: RecoveryReport = recover(directory, files)
        """What start-up found of earlier incarnations."""
        self._recent: OrderedDict[str, tuple[str, LogAck]] = _read_recent(directory, recent_rows)
        self._claim = claim_epoch(directory, writer_id, files)
        self._segments = SegmentWriter(directory, self._claim.writer_id, self._claim.epoch, files)
        self._opened_at_s = 0.0
        # Guards everything below, and _recent.
        self._changed = threading.Condition()
        self._queue: list[_Waiting] = []
        self._waiting: dict[str, _Waiting] = {}
        self._waiting_bytes = 0
        self._stats = LogStats()
        self._closing = False
        self._failure: str | None = None
        # A daemon: a forgotten close() must not hang the interpreter. Nothing unacknowledged was promised.
        self._thread = threading.Thread(target=self._run, name="feedback-log", daemon=True)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """False for good once a write or sync has failed: the process should be replaced."""
        return self._failure is None

    @property
    def stats(self) -> LogStats:
        """A consistent copy of the counters."""
        with self._changed:
            return replace(self._stats)

    @property
    def open_segment_age_s(self) -> float:
        """How long ago the oldest row that is not sealed yet was written; 0 without one."""
        return self._clock() - self._opened_at_s if self._segments.rows else 0.0

    def submit(self, row: Mapping[str, Any]) -> Any:
        """Queue a row (see `schema.to_row`); does not block on the disk.

        An accepted row is written even if nobody waits for it any more.

        Returns:
            A future of the `LogAck`, ``duplicate=True`` for a repeat of a row already accepted, which resolves
            when that one is durable. It fails with `Unavailable` (with the reason) if the write or sync fails,
            or if the writer has stopped.

        Raises:
            InvalidRequest: The row does not fit the schema.
            RequestTooLarge: The row alone is over ``queue_bytes``.
            Conflict: The event_id was used with other content.
            Unavailable: The queue is full; come back in a few seconds.
        """
        row = whole(row)
        size_bytes = sum([len(text) for name in _LONG_TEXTS if type(text := row[name]) is str])
        event_id, digest = row["event_id"], row["content_hash"]
        future = self._new_future()
        now_s = self._clock()
        with self._changed:
            if self._failure is not None or self._closing:
                self._stats.refused += 1
                future.set_exception(_stopped(self._failure or "it was closed"))
                return future
            waiting = self._waiting.get(event_id)
            known = self._recent.get(event_id)
            if waiting is not None or known is not None:
                first_digest = waiting.row["content_hash"] if waiting else known[0] if known else None
                if first_digest != digest:
                    self._stats.refused += 1
                    raise Conflict(
                        f"The event_id {event_id!r} was used before with other content. Repeat the first "
                        "content unchanged, or send a new event_id.",
                        param="event_id",
                    )
                self._stats.duplicates += 1
                if waiting is not None:
                    waiting.followers.append(future)
                    return future
            elif size_bytes > self._queue_bytes:
                self._stats.refused += 1
                raise RequestTooLarge(f"The row is {size_bytes} bytes; at most {self._queue_bytes} are kept.")
            elif len(self._waiting) >= self._queue_limit or self._waiting_bytes + size_bytes > self._queue_bytes:
                self._stats.refused += 1
                raise Unavailable(
                    f"The feedback log is busy: {len(self._waiting)} rows wait for the disk. Retry in a few "
                    "seconds with the same event_id."
                )
            else:
                self._accept(_Waiting(row, size_bytes, future, now_s))
                return future
        assert known is not None
        future.set_result(replace(known[1], duplicate=True))
        return future

    def reconfigure(self, *, queue_limit: int, limits: RotationLimits) -> None:
        """Use these from now on; what already waits stays accepted."""
        with self._changed:
            self._queue_limit = queue_limit
            self._limits = limits
            self._changed.notify()

    def close(self) -> None:
        """Write all that was accepted, resolve its futures, seal, end the thread. Blocks; again: nothing."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _accept(self, waiting: _Waiting) -> None:
        self._waiting[waiting.row["event_id"]] = waiting
        self._waiting_bytes += waiting.size_bytes
        self._queue.append(waiting)
        self._stats.accepted += 1
        self._stats.pending += 1
        if len(self._queue) == 1:
            self._changed.notify()

    def _run(self) -> None:
        try:
            while (group := self._take()) is not None:
                if group:
                    self._commit(group)
                facts = SegmentFacts(self._segments.rows, self._segments.size_bytes, self._opened_at_s)
                if should_rotate(facts, self._limits, self._clock()):
                    self._segments.seal()
            self._segments.seal()
        except OSError as error:
            self._stop(f"{type(error).__name__}: {error}")
        except BaseException as error:
            self._stop(f"a bug: {type(error).__name__}: {error}")
            raise
        finally:
            # After a failure the file may not even close; the reason that matters is told already.
            with suppress(OSError):
                self._segments.close()
            self._claim.close()

    def _take(self) -> list[_Waiting] | None:
        """All that is queued; empty when the open segment is due for sealing; None when closed and drained."""
        with self._changed:
            while not self._queue and not self._closing:
                left_s = None
                if self._segments.rows:
                    left_s = self._opened_at_s + self._limits.max_age_s - self._clock()
                    if left_s <= 0:
                        return []
                self._changed.wait(None if left_s is None else min(left_s, threading.TIMEOUT_MAX))
            group, self._queue = self._queue, []
            return group or None

    def _commit(self, group: list[_Waiting]) -> None:
        group, batch = self._encodable(group)
        if batch is None:
            return
        if not self._segments.rows:
            self._opened_at_s = self._clock()
        first_seq = self._segments.append(batch)
        began_s = self._clock()
        self._segments.sync()
        now_s = self._clock()
        name = self._segments.name
        acks = [LogAck(w.row["event_id"], name, first_seq + i) for i, w in enumerate(group)]
        with self._changed:
            for waiting, ack in zip(group, acks, strict=True):
                del self._waiting[ack.event_id]
                self._waiting_bytes -= waiting.size_bytes
                self._recent[ack.event_id] = (waiting.row["content_hash"], ack)
            while len(self._recent) > self._recent_rows:
                self._recent.popitem(last=False)
            self._stats.written += len(group)
            self._stats.pending -= len(group)
            self._stats.syncs += 1
            self._stats.last_sync_s = now_s - began_s

        def resolve() -> None:
            for waiting, ack in zip(group, acks, strict=True):
                _resolve(waiting.future, ack)
                for follower in waiting.followers:
                    _resolve(follower, replace(ack, duplicate=True))

        # Outside the lock: done-callbacks run here and may submit again.
        self._deliver(resolve)
        if self._on_commit is not None:
            self._on_commit(Commit(len(group), now_s - began_s, now_s - group[0].since_s))

    def _encodable(self, group: list[_Waiting]) -> tuple[list[_Waiting], pa.RecordBatch | None]:
        """The group without rows that Arrow cannot hold, as a batch; such a row is a bug, and fails alone."""
        try:
            return group, to_batch([waiting.row for waiting in group])
        except _DOES_NOT_FIT:
            good = [waiting for waiting in group if self._fits(waiting)]
        return good, to_batch([waiting.row for waiting in good]) if good else None

    def _fits(self, waiting: _Waiting) -> bool:
        try:
            to_batch([waiting.row])
        except _DOES_NOT_FIT as error:
            reason = f"The row {waiting.row['event_id']!r} does not fit the log's schema: {error}"
            with self._changed:
                del self._waiting[waiting.row["event_id"]]
                self._waiting_bytes -= waiting.size_bytes
                self._stats.failed += 1
                self._stats.pending -= 1
            self._deliver(lambda: _fail([waiting], InternalError(reason)))
            return False
        return True

    def _stop(self, reason: str) -> None:
        with self._changed:
            self._failure = reason
            victims = list(self._waiting.values())
            self._waiting.clear()
            self._queue.clear()
            self._waiting_bytes = 0
            self._stats.failed += len(victims)
            self._stats.pending -= len(victims)
        if victims:
            self._deliver(lambda: _fail(victims, _stopped(reason)))


def _uncancellable() -> Future[LogAck]:
    future: Future[LogAck] = Future()
    future.set_running_or_notify_cancel()  # from here on cancel() has no effect
    return future


def _at_once(resolve: Callable[[], None]) -> None:
    resolve()


def _resolve(future: Promise, ack: LogAck) -> None:
    # A waiter on an event loop may have been cancelled meanwhile.
    if not future.done():
        future.set_result(ack)


def _fail(waiting: list[_Waiting], error: Exception) -> None:
    for future in (future for one in waiting for future in (one.future, *one.followers)):
        if not future.done():
            future.set_exception(error)


def _stopped(reason: str) -> Unavailable:
    return Unavailable(
        f"The feedback log has stopped ({reason}). Retry in a few seconds with the same event_id: a repeat is "
        "never counted twice."
    )


def _read_recent(directory: Path, limit: int) -> OrderedDict[str, tuple[str, LogAck]]:
    """The newest event_ids of sealed segments and the archive, with their content hashes, oldest first.

    Corrupt segments give what they still hold.
    """
    newest: OrderedDict[str, tuple[str, LogAck]] = OrderedDict()
    for readout in read_segments(directory, newest_first=True):
        if not readout.sealed:
            continue  # of another live writer: its last batch may not be on disk yet, so a repeat must not rest on it
        name = readout.path.relative_to(directory).as_posix()
        for batch in reversed(readout.batches):
            ids = batch.data.column("event_id").to_pylist()
            hashes = batch.data.column("content_hash").to_pylist()
            for i in reversed(range(len(ids))):
                if len(newest) >= limit:
                    return OrderedDict(reversed(newest.items()))
                # The later, older one wins: of equal event_ids readers keep the first written.
                newest[ids[i]] = (hashes[i], LogAck(ids[i], name, batch.first_seq + i))
    for archived in read_newest_ids(directory, limit - len(newest)):
        # As above: what is in the archive was written first.
        newest[archived.event_id] = (archived.content_hash, LogAck(archived.event_id, archived.file, archived.position))
    return OrderedDict(reversed(newest.items()))
