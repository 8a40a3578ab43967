"""The one table of the feedback log: its columns, and what makes a row whole.

The Arrow schema, the documentation table and the row check all render from `COLUMNS`. All signals share the
table (human, judge, validator, implicit, and the generations they speak of). This module does not know files,
HTTP or tokens. Event builders, the log writer, compaction and the trainer call it.

To change it: add nullable columns at the end, raise `SCHEMA_VERSION`, mend the golden test. Old segments keep
their own schema in their head; readers fill what they lack with None.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from graph.errors import InvalidRequest

SCHEMA_VERSION = 2

FEEDBACK_KINDS = (
    "thumb",
    "rating",
    "label",
    "comment",
    "correction",
    "preference",
    "implicit",
    "retract",
    "supersede",
)
"""What a client may send."""
SYSTEM_KINDS = ("generation", "undelivered", "tombstone", "decision")
"""What only the service says. undelivered: the answer never reached its caller. tombstone: erase what
``supersedes`` names. decision: of the learning loop, such as a promotion."""
KINDS = (*SYSTEM_KINDS, *FEEDBACK_KINDS, "validator")
"""What the table may hold."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table."""

    name: str
    type: pa.DataType
    nullable: bool
    doc: str
    content: bool = True
    """Whether it is part of what the sender said: a retry must repeat it. False: the server sets it."""
    json: bool = False
    """A text column that holds JSON: objects and lists are encoded by `to_row`."""


# No dictionary columns: a dictionary lives in its own message, so a batch would not stand on its own.
COLUMNS: tuple[Column, ...] = (
    Column("event_id", pa.string(), False, "Idempotency key; a UUID for feedback.", content=False),
    Column("schema_version", pa.int32(), False, "Version of this table that wrote the row.", content=False),
    Column("kind", pa.string(), False, f"One of {', '.join(KINDS)}."),
    Column("generation_id", pa.string(), True, "The answer that the row speaks of."),
    Column("other_generation_id", pa.string(), True, "The second answer of a preference or a regeneration."),
    Column("tenant", pa.string(), False, "Whose data it is."),
    Column("name", pa.string(), True, "The metric or signal; the kind where the sender gave none."),
    Column("value_bool", pa.bool_(), True, "Thumb: true is up."),
    Column("value_num", pa.float64(), True, "Rating, or seconds of dwell; finite."),
    Column("value_str", pa.string(), True, "Label, or which answer is preferred: this, other."),
    Column("text", pa.string(), True, "Comment, correction or reason."),
    Column("source_type", pa.string(), True, "human, judge, code or implicit."),
    Column("source_id", pa.string(), True, "Keyed hash of the rater, or the name of the judge or check."),
    Column("supersedes", pa.string(), True, "The event_id that a retract, supersede or tombstone speaks of."),
    Column("model", pa.string(), True, "Model that answered; from the signed token.", content=False),
    Column("adapter", pa.string(), True, "Adapter that answered; from the signed token.", content=False),
    Column("arm", pa.string(), True, "Experiment arm; from the signed token.", content=False),
    Column("controls_hash", pa.string(), True, "Hash of the controls; from the signed token.", content=False),
    Column("ts_client_us", pa.int64(), True, "Sender's clock, us since 1970 UTC.", content=False),
    Column("ts_server_us", pa.int64(), False, "Our clock, us since 1970 UTC.", content=False),
    Column("tags", pa.string(), True, "Flat string pairs.", json=True),
    Column("prompt", pa.string(), True, "Messages of the request: [{role, content}].", json=True),
    Column("answer", pa.string(), True, "The answer as delivered."),
    Column("controls", pa.string(), True, "Control receipt: asked, compiled, measured.", json=True),
    Column("quality", pa.string(), True, "Sub-scores and findings.", json=True),
    Column("timings", pa.string(), True, "Seconds by stage.", json=True),
    Column("versions", pa.string(), True, "Versions of code, model and catalogues.", json=True),
    Column("outcome", pa.string(), True, "pass, fixed, retried, degraded, blocked or unvalidated."),
    Column("extra", pa.string(), True, "Fields that this version does not know.", json=True),
    Column("content_hash", pa.string(), False, "sha256 (hex) of what the sender said.", content=False),
    Column("row_crc", pa.uint32(), False, "CRC-32 of the row, checked up to the trainer.", content=False),
    # Version 2: what reports group by, so that no reader has to open a million JSON texts.
    Column("quality_score", pa.float64(), True, "Total quality score of the answer, 0 to 1."),
    Column("failed_checks", pa.string(), True, "Checks whose finding was more than a note: [name].", json=True),
    Column("answer_format", pa.string(), True, "Format that the answer was asked in."),
    Column("language", pa.string(), True, "Language that was asked for; auto: the prompt's own."),
    Column("settings", pa.string(), True, "Effective value of each dial and switch: {name: value}.", json=True),
    Column("prompt_template", pa.string(), True, "Hash of the system turns; null without any."),
    Column("prompt_hash", pa.string(), True, "Hash of the last user turn, case and spaces evened out."),
)
COLUMN_NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)
ARROW_SCHEMA: pa.Schema = pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in COLUMNS])

_STRUCT = pa.struct(list(ARROW_SCHEMA))
_BY_NAME = {column.name: column for column in COLUMNS}
_MADE_HERE = frozenset({"schema_version", "content_hash", "row_crc"})
_REQUIRED = tuple(column.name for column in COLUMNS if not column.nullable and column.name not in _MADE_HERE)
_PLAIN_TEXT = frozenset(c.name for c in COLUMNS if c.type == pa.string() and not c.json and c.name != "kind")
"""Any string fits; most values are one, so they skip the full check."""
_NOT_CONTENT = frozenset(column.name for column in COLUMNS if not column.content)
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
# The standard library, not orjson: its float text is repr(), fixed for good, and hashes are kept on disk.
_encode_json = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def render_columns() -> str:
    """Return the columns as a Markdown table, in order, for the documentation."""
    lines = ["| column | type | null | meaning |", "|---|---|---|---|"]
    lines += [f"| `{c.name}` | {c.type} | {'yes' if c.nullable else 'no'} | {c.doc} |" for c in COLUMNS]
    return "\n".join(lines) + "\n"


def to_row(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a whole row: every column present, types checked, hash and CRC set.

    Idempotent: ``to_row(to_row(x)) == to_row(x)``. A row that passes can always be written:
    one sender's bad value must not fail the batch of all others.

    Args:
        fields: Values by column. Missing ones are None; JSON columns take an object or list, or text that is
            JSON already; unknown names go into ``extra``. Not changed.

    Raises:
        InvalidRequest: A required column is missing, or a value does not fit its column (``param`` names it).
    """
    row: dict[str, Any] = dict.fromkeys(COLUMN_NAMES)
    unknown: dict[str, Any] = {}
    for name, value in fields.items():
        if value is None or name in _MADE_HERE:
            continue
        if name not in row:
            unknown[name] = value
        elif name in _PLAIN_TEXT and type(value) is str:
            row[name] = value
        else:
            row[name] = _fit(_BY_NAME[name], value)
    for name in _REQUIRED:
        if row[name] is None:
            raise InvalidRequest(f"The column '{name}' is missing; every row must have it.", param=name)
    if unknown:
        row["extra"] = _with_unknown(row["extra"], unknown)
    row["schema_version"] = SCHEMA_VERSION
    try:
        content = _content_json(row)
        row["content_hash"] = hashlib.sha256(content).hexdigest()
        row["row_crc"] = zlib.crc32(_other_json(row), zlib.crc32(content))
    except UnicodeEncodeError as error:
        column = _unencodable(row)
        raise InvalidRequest(
            f"The column '{column}' holds half a surrogate pair; send valid Unicode text.", param=column
        ) from error
    return row


def whole(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``row`` itself if `to_row` of this version made it, else what `to_row` makes of it.

    A row that another process made is checked by its version and number of columns only; its values are the
    writer's to try.
    """
    if row.get("schema_version") == SCHEMA_VERSION and len(row) == len(COLUMN_NAMES):
        return row
    return to_row(row)


def to_batch(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Return whole rows as one record batch.

    Raises:
        TypeError, ValueError, OverflowError: A value that `to_row` would not have let through.
    """
    # One conversion in C++: for small groups half the time of from_pylist, which builds each column by itself.
    return pa.RecordBatch.from_struct_array(pa.array(rows, _STRUCT))


def content_hash(row: Mapping[str, Any]) -> str:
    """Return the sha256 (64 hex digits) of what the sender said: same content, same hash.

    Columns that the server sets (ids, clocks, versions, what comes from the token) do not count, nor do
    columns that are None, so that a later version's new columns leave old hashes as they are.
    """
    return hashlib.sha256(_content_json(row)).hexdigest()


def is_intact(row: Mapping[str, Any]) -> bool:
    """Return whether the row still is what `to_row` made: its CRC matches all its other columns."""
    return bool(row.get("row_crc") == zlib.crc32(_other_json(row), zlib.crc32(_content_json(row))))


def _content_json(row: Mapping[str, Any]) -> bytes:
    return _encode_json({k: v for k, v in row.items() if v is not None and k not in _NOT_CONTENT}).encode()


def _other_json(row: Mapping[str, Any]) -> bytes:
    others = {k: row.get(k) for k in _NOT_CONTENT if k != "row_crc"}
    return _encode_json({k: v for k, v in others.items() if v is not None}).encode()


def _fit(column: Column, value: Any) -> Any:
    if column.name == "kind" and value not in KINDS:
        raise InvalidRequest(f"The kind {value!r} is not known; allowed: {', '.join(KINDS)}.", param="kind")
    if column.json and isinstance(value, Mapping | list | tuple):
        try:
            return _encode_json(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise _misfit(column, value, "something that JSON can hold") from error
    if column.type == pa.string():
        if type(value) is str:
            return value
        raise _misfit(column, value, "an object, a list or JSON text" if column.json else "a string")
    if column.type == pa.bool_():
        if type(value) is bool:
            return value
        raise _misfit(column, value, "true or false")
    if column.type == pa.float64():
        # Compared before the conversion: float() of a huge integer raises. NaN fails both comparisons.
        if type(value) in (int, float) and -1e308 <= value <= 1e308:
            return float(value)
        raise _misfit(column, value, "a finite number")
    if type(value) is int and _INT64_MIN <= value <= _INT64_MAX:
        return value
    raise _misfit(column, value, "a whole number of 64 bits")


def _with_unknown(extra: str | None, unknown: Mapping[str, Any]) -> str:
    try:
        known = json.loads(extra) if extra else {}
        return _encode_json({**known, **unknown})
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(
            f"The fields {sorted(unknown)} cannot be kept as JSON in 'extra': {error}", param="extra"
        ) from error


def _misfit(column: Column, value: Any, allowed: str) -> InvalidRequest:
    got = repr(value) if isinstance(value, bool | float) else type(value).__name__
    return InvalidRequest(f"The column '{column.name}' got {got}; allowed: {allowed}.", param=column.name)


def _unencodable(row: Mapping[str, Any]) -> str:
    for name, value in row.items():
        if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
            return name
    raise AssertionError("only a lone surrogate fails to encode")
