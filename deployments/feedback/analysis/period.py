"""Which rows a report is about: a period, a tenant, and the buckets of its time axis. Pure.

A row belongs to the period of its own server's clock: an answer when it was served, a signal when it was given.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from graph.errors import InvalidRequest

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
_UNITS_US = {"s": 1_000_000, "m": 60_000_000, "h": HOUR_US, "d": DAY_US, "w": 7 * DAY_US}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_US = 253_402_300_799_000_000
"""The last second of the year 9999."""
_MONDAY_US = 4 * DAY_US
"""1970-01-05, on which weeks are aligned."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The rows of a report: ``since_us <= ts_server_us < until_us`` (us since 1970 UTC), of one tenant or all."""

    since_us: int | None = None
    until_us: int | None = None
    tenant: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the log is left out."""
        return self.since_us is None and self.until_us is None and self.tenant is None

    def predicate(self, view: str = "") -> str:
        """This scope as an SQL condition on a view's ``ts_server_us`` and ``tenant``; ``view``: its alias and a dot."""
        parts = []
        if self.since_us is not None:
            parts.append(f"{view}ts_server_us >= {int(self.since_us)}")
        if self.until_us is not None:
            parts.append(f"{view}ts_server_us < {int(self.until_us)}")
        if self.tenant is not None:
            parts.append(f"{view}tenant = '" + self.tenant.replace("'", "''") + "'")
        return " AND ".join(parts) or "true"


@dataclass(frozen=True, slots=True)
class Bucket:
    """One step of the time axis."""

    name: str
    size_us: int
    offset_us: int = 0

    def start_sql(self, column: str) -> str:
        """The start of the bucket that ``column`` falls into, us, as an SQL expression."""
        return f"(({column} - {self.offset_us}) // {self.size_us}) * {self.size_us} + {self.offset_us}"


def parse_since(text: str, now_us: int) -> int | None:
    """Return where a period begins, us since 1970 UTC; None: with the log.

    Args:
        text: ``all``; a span before now such as ``3600s``, ``90m``, ``24h``, ``7d`` or ``2w``; or an ISO date or
            time, UTC where it names no zone.
        now_us: Where spans are counted from.

    Raises:
        InvalidRequest: It is none of these.
    """
    if text == "all":
        return None
    span = re.fullmatch(r"(\d{1,12})([smhdw])", text)
    if span:
        return max(now_us - int(span[1]) * _UNITS_US[span[2]], 0)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            f"{text!r} is no period; allowed: all, a span such as 24h, 7d or 2w, or a date such as 2026-01-31.",
            param="since",
        ) from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def choose_bucket(first_us: int, last_us: int) -> Bucket:
    """Return hours for up to three days, weeks (from Monday) beyond four months, else days; all in UTC."""
    span_us = last_us - first_us
    if span_us <= 3 * DAY_US:
        return Bucket("hour", HOUR_US)
    return Bucket("day", DAY_US) if span_us <= 120 * DAY_US else Bucket("week", 7 * DAY_US, _MONDAY_US)


def to_iso(time_us: int | None) -> str | None:
    """Return a time as ISO 8601 in UTC, to the second; one that a broken clock told as the nearest that has a date."""
    if time_us is None:
        return None
    moment = _EPOCH + timedelta(microseconds=min(max(time_us, 0), _LAST_US))
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
