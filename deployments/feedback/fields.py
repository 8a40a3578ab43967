"""The field types of a feedback event: one spelling for each id, texts that UTF-8 can hold, times in microseconds.

Pure. The body of an event is made of them, and the ingress checks the ids in paths with them. What a value means, and
which fields go together, is for ``events.py``.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator

MAX_TEXT_BYTES = 16 * 1024
MAX_CORRECTION_BYTES = 64 * 1024
"""A correction is a whole answer, so it may be longer than a comment."""
MAX_TAGS = 16
MAX_TAG_KEY_CHARS = 64
MAX_TAG_VALUE_CHARS = 512
MAX_RATER_CHARS = 128
MAX_TIMESTAMP_CHARS = 40
COMPLETION_PREFIX = "chatcmpl-"
"""In front of a generation's id, the ``id`` of a chat completion."""

# The canonical form only: UUID() would also take braces, a URN or no hyphens, each another spelling of one id.
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_GENERATION_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_VERSION_AT = 14
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_event_id(text: str) -> str:
    """The id in lower case; ValueError when it is no UUID."""
    if not _UUID.fullmatch(text):
        raise ValueError("must be a UUID such as 01890a5d-ac96-774b-bcce-b302099a8057")
    return text.lower()


def check_is_senders(event_id: str) -> str:
    """The id, in lower case; ValueError when it is of the version that ``markers.derive_id`` makes."""
    if event_id[_VERSION_AT] == "8":
        raise ValueError("is a UUID of version 8, which is the service's own; send a version 7 or 4")
    return event_id


def check_generation_id(text: str) -> str:
    """The id as the log has it: without the ``chatcmpl-`` of a completion; ValueError when it can be none."""
    bare = text.removeprefix(COMPLETION_PREFIX)
    if not _GENERATION_ID.fullmatch(bare):
        raise ValueError("must be the id of an answer: 1 to 128 letters, digits, _ . : -")
    return bare


def _check_unicode(text: str) -> str:
    # JSON can spell half a surrogate pair ("\\ud800"); UTF-8, and so the log, cannot hold it.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode text; it holds half a surrogate pair") from None
    return text


def _check_value(value: Any) -> bool | int | float | str | None:
    if value is not None and type(value) not in (bool, int, float, str):
        raise ValueError("must be true, false, a number or a string")
    if type(value) is str:
        return _check_unicode(value)
    return value  # type: ignore[no-any-return]


def _to_us(value: Any) -> int | None:
    if value is None:
        return None
    try:
        if not isinstance(value, str) or len(value) > MAX_TIMESTAMP_CHARS:
            raise ValueError
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None or moment < _EPOCH:
            raise ValueError
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            "must be a time since 1970 with its offset in ISO 8601, such as 2026-03-01T12:30:00+01:00"
        ) from None
    return (moment - _EPOCH) // timedelta(microseconds=1)


EventId = Annotated[str, AfterValidator(check_event_id)]
SentEventId = Annotated[EventId, AfterValidator(check_is_senders)]
"""Of a new event; it may speak of one that the service named."""
GenerationId = Annotated[str, AfterValidator(check_generation_id)]
Text = Annotated[str, AfterValidator(_check_unicode)]
Value = Annotated[bool | int | float | str | None, PlainValidator(_check_value)]
Rater = Annotated[str, Field(min_length=1, max_length=MAX_RATER_CHARS), AfterValidator(_check_unicode)]
TimestampUs = Annotated[int | None, PlainValidator(_to_us)]
"""Sent as ISO 8601 with an offset, held as microseconds since 1970 UTC."""
Tags = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=MAX_TAG_KEY_CHARS), AfterValidator(_check_unicode)],
        Annotated[str, Field(max_length=MAX_TAG_VALUE_CHARS), AfterValidator(_check_unicode)],
    ],
    Field(max_length=MAX_TAGS),
]


def to_iso(us: int) -> str:
    """Microseconds since 1970 UTC as ISO 8601 in UTC, ``2026-03-01T11:30:00.000000Z``."""
    return (_EPOCH + timedelta(microseconds=us)).isoformat(timespec="microseconds").replace("+00:00", "Z")
