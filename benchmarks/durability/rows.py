"""Rows whose every value follows from their event_id, so that whoever reads one knows what it must be."""

import zlib
from functools import lru_cache
from typing import Any

from deployments.feedback.schema import to_row

_TEXT_CHARS = 700
"""Longest text: a batch of a few rows spans several sectors, of many rows several pages."""


@lru_cache(100_000)
def event_row(event_id: str) -> dict[str, Any]:
    """Return the whole row of this event, not to be changed; an id ``erase:X`` is the tombstone of X."""
    number = zlib.crc32(event_id.encode())
    fields: dict[str, Any] = {"event_id": event_id, "tenant": f"tenant-{number % 5}", "ts_server_us": number}
    erased = event_id.removeprefix("erase:")
    if erased != event_id:
        return to_row(fields | {"kind": "tombstone", "supersedes": erased})
    text = f"{event_id} was written, déjà vu; "
    return to_row(
        fields
        | {
            "kind": "comment",
            "generation_id": f"generation-{number % 1000}",
            "text": (text * (_TEXT_CHARS // len(text)))[: number % _TEXT_CHARS],
            "value_num": number / 7,
            "value_bool": number % 2 == 0 if number % 3 else None,
            "tags": {"number": str(number)},
        }
    )
