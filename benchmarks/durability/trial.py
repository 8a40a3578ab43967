"""One life of a log under a fault, and what must hold after it: shared by injected and real faults."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.durability.reading import read_snapshot
from benchmarks.durability.recording import QuickFiles
from benchmarks.durability.rows import event_row
from deployments.feedback.files import FileLayer
from deployments.feedback.segment_writer import RotationLimits
from deployments.feedback.writer import LogWriter
from graph.contracts import LogAck
from graph.errors import Unavailable

LONGEST_ANSWER_S = 30.0
GROUPS = (1, 3, 2, 5, 1, 4)
"""Rows sent at once, one group after the other: some segments are sealed, one stays open."""
_LIMITS = RotationLimits(max_rows=6)


@dataclass(slots=True)
class Trial:
    """What clients were told."""

    acked: set[str] = field(default_factory=set)
    sent: list[str] = field(default_factory=list)
    failed: int = 0
    """Rows answered with a retryable 503."""
    hung: int = 0
    """Rows without an answer in half a minute."""
    wrong: list[str] = field(default_factory=list)
    """What must not happen: another error, or work taken on after a failure."""
    start_refused: bool = False
    """The writer did not start: an OSError told why."""

    def note(self, event_id: str, future: "Future[LogAck]") -> None:
        """Wait for the answer and note it."""
        try:
            self.acked.add(future.result(LONGEST_ANSWER_S).event_id)
        except Unavailable as error:
            self._note_unavailable(error)
        except TimeoutError:
            self.hung += 1
        except Exception as error:  # noqa: BLE001 - a finding
            self.wrong.append(f"{event_id}: {error!r}")

    def send(self, writer: LogWriter, event_ids: Sequence[str]) -> None:
        """Send rows at once, wait for all answers."""
        futures = []
        for event_id in event_ids:
            self.sent.append(event_id)
            try:
                futures.append((event_id, writer.submit(event_row(event_id))))
            except Unavailable as error:
                self._note_unavailable(error)
        for event_id, future in futures:
            self.note(event_id, future)

    def close(self, writer: LogWriter) -> None:
        """Close the writer; one that does not end counts as hung."""
        closing = threading.Thread(target=writer.close, daemon=True)
        closing.start()
        closing.join(LONGEST_ANSWER_S)
        self.hung += closing.is_alive()

    def _note_unavailable(self, error: Unavailable) -> None:
        self.failed += 1
        if not error.retryable or error.http_status != 503:
            self.wrong.append(f"not a retryable 503: {error!r}")


def serve(
    root: Path,
    files: FileLayer | None,
    name: str = "fault",
    between: Callable[[int], None] = lambda group: None,
    **options: Any,
) -> Trial:
    """Start a writer, send `GROUPS`, close it.

    Args:
        root: Of the log.
        files: None: the real file system.
        name: Begins the event_ids.
        between: Called before each group with its number.
        options: Of the writer.
    """
    trial = Trial()
    try:
        writer = LogWriter(root, files=files, limits=_LIMITS, **options)
    except OSError:
        trial.start_refused = True
        return trial
    for number, rows in enumerate(GROUPS):
        between(number)
        trial.send(writer, [f"{name}-{number}-{row}" for row in range(rows)])
    if not writer.healthy:
        acked = len(trial.acked)
        trial.send(writer, [f"{name}-after"])
        if len(trial.acked) > acked:
            trial.wrong.append("took on work after a failure")
    trial.close(writer)
    return trial


def check_after(root: Path, acked: set[str], sent: Sequence[str]) -> tuple[int, str | None]:
    """(acknowledged rows that cannot be read, why the log did not recover by itself or None).

    A new writer starts on the log and gets all rows again; then each must be there once.
    """
    try:
        lost = len(acked - read_snapshot(root).ids)
        writer = LogWriter(root, files=QuickFiles())
        again = Trial()
        again.send(writer, sent)
        again.close(writer)
        reading = read_snapshot(root)
    except Exception as error:  # noqa: BLE001 - a finding
        return len(acked), repr(error)
    missing = (acked | set(sent)) - reading.ids
    if again.failed or again.hung or again.wrong:
        return lost, f"the next writer did not take all rows: {again.failed}, {again.hung}, {again.wrong}"
    if missing or reading.faults or reading.problems:
        return lost, f"{len(missing)} missing, {reading.faults} wrong or doubled, {reading.problems}"
    return lost, None


@dataclass(frozen=True, slots=True)
class Case:
    """What came of one fault at one place."""

    place: str
    trial: Trial
    false_acks: int
    problem: str | None
    """Why the log did not recover by itself."""


def joined(trials: Sequence[Trial]) -> Trial:
    """Return all that the clients of several processes were told."""
    whole = Trial()
    for trial in trials:
        whole.acked |= trial.acked
        whole.sent += trial.sent
        whole.failed += trial.failed
        whole.hung += trial.hung
        whole.wrong += trial.wrong
        whole.start_refused |= trial.start_refused
    return whole
