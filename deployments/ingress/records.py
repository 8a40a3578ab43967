"""What the pipeline knows of an answer as a row of the log. Pure."""

from collections.abc import Mapping
from typing import Any

from deployments.feedback.events import generation_row

_COLUMNS = {
    "generation_id",
    "tenant",
    "model",
    "prompt",
    "answer",
    "outcome",
    "controls_hash",
    "controls",
    "quality",
    "timings",
    "versions",
}


def to_log_row(record: Mapping[str, Any], now_us: int) -> dict[str, Any]:
    """A generation's row; what has no column of its own goes into ``extra``.

    Args:
        record: ``Plan.record`` and what ``RequestLife`` adds to it.
        now_us: Microseconds since 1970 UTC.
    """
    columns = {name: value for name, value in record.items() if name in _COLUMNS}
    rest = {name: value for name, value in record.items() if name not in _COLUMNS and name != "extra"}
    return generation_row(**columns, now_us=now_us, extra={**record.get("extra", {}), **rest})
