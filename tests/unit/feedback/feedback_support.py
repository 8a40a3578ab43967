"""Builders for the tests of the feedback log; the recording file layer comes from the durability benchmark."""

import threading
from collections.abc import Iterable
from typing import Any

from benchmarks.durability.disk import Disk, write_state
from benchmarks.durability.recording import Crash, Operation, QuickFiles, RecordingFiles, failing
from deployments.feedback.schema import to_row

__all__ = [
    "Crash",
    "Disk",
    "GatedFiles",
    "Operation",
    "QuickFiles",
    "RecordingFiles",
    "failing",
    "make_row",
    "make_rows",
    "write_state",
]


def make_row(number: int, **changes: Any) -> dict[str, Any]:
    """A whole row whose every value depends on ``number``."""
    fields = {
        "event_id": f"event-{number:05d}",
        "kind": "comment",
        "generation_id": f"generation-{number}",
        "tenant": "acme",
        "text": f"comment {number} " + "é" * (number % 7),
        "value_num": number / 4,
        "value_bool": number % 2 == 0,
        "ts_server_us": 1_700_000_000_000_000 + number,
        "tags": {"number": str(number)},
    }
    return to_row(fields | changes)


def make_rows(numbers: Iterable[int]) -> list[dict[str, Any]]:
    return [make_row(number) for number in numbers]


class GatedFiles(QuickFiles):
    """Holds every fdatasync until `open` is set; `entered` tells that one is held."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.syncs = 0

    def fdatasync(self, fd: int) -> None:
        self.entered.set()
        assert self.open.wait(30)
        self.syncs += 1
