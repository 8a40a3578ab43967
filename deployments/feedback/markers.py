"""Rows that only the service says about other rows: an answer that never arrived, and an erasure.

Their event_ids follow from what they speak of, so that saying it twice, from two replicas or after a crash, is one row.
Pure; the ingress calls it, readers and compaction act on the rows.
"""

import hashlib
import uuid
from typing import Any, Literal

from deployments.feedback.schema import to_row

_NAMESPACE = uuid.UUID("7d3a2f0e-5b0c-5c55-9f0a-3f2a4f1d9c61")
"""Fixed for good: ids made from it are on disk."""


def derive_id(*parts: str) -> str:
    """A UUID (version 8, RFC 9562 section 5.8) that follows from ``parts``; no two lists of parts share one.

    The version is the service's own: `fields.SentEventId` takes none of it, so that no sender can be first with one.
    """
    told = "".join(f"{len(part)}:{part}" for part in parts)
    number = int.from_bytes(hashlib.sha256(_NAMESPACE.bytes + told.encode()).digest()[:16])
    number = number & ~(0xF << 76) | 8 << 76  # version
    number = number & ~(0x3 << 62) | 2 << 62  # variant
    return str(uuid.UUID(int=number))


def tombstone_id(erased_id: str) -> str:
    """The event_id of the tombstone of an event or generation."""
    return derive_id("tombstone", erased_id)


def tombstone_row(erased_id: str, scope: Literal["event", "generation"], tenant: str, now_us: int) -> dict[str, Any]:
    """The row that hides ``erased_id`` from every reader at once and erases it at the next compaction.

    Args:
        scope: generation: every row about it goes too.
    """
    return to_row(
        {
            "event_id": tombstone_id(erased_id),
            "kind": "tombstone",
            "name": scope,
            "tenant": tenant,
            "supersedes": erased_id,
            "ts_server_us": now_us,
        }
    )


def undelivered_id(generation_id: str) -> str:
    """The event_id of the row that says that this answer never arrived."""
    return derive_id("undelivered", generation_id)


def undelivered_row(generation_id: str, tenant: str, now_us: int) -> dict[str, Any]:
    """The row that says that a recorded answer never reached its caller: it does not count as served."""
    return to_row(
        {
            "event_id": undelivered_id(generation_id),
            "kind": "undelivered",
            "generation_id": generation_id,
            "tenant": tenant,
            "ts_server_us": now_us,
        }
    )
