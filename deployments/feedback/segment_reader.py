"""Reads and verifies a segment: every batch up to the first damage, and what that damage is. See `segment_format`.

`read_segment` reads all of it and judges the rest; `read_on` follows one that grows, and judges nothing.
"""

import hashlib
import json
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from deployments.feedback.schema import ARROW_SCHEMA, SCHEMA_VERSION
from deployments.feedback.segment_format import (
    CONTINUATION,
    CRC_MARK,
    Manifest,
    manifest_path,
    read_head,
    verified_end,
)

READ_ON_BYTES = 8 * 2**20
"""How much `read_on` reads at a time."""


@dataclass(frozen=True, slots=True)
class SegmentBatch:
    """One verified batch; row i has the sequence ``first_seq + i``."""

    first_seq: int
    data: pa.RecordBatch
    start_byte: int
    """Where its message begins in the file."""
    size_bytes: int
    """Of its message."""


@dataclass(frozen=True, slots=True)
class SegmentReadout:
    """What could be read of one segment, and what is wrong with the rest."""

    path: Path
    sealed: bool
    writer: str | None
    """None: the head itself is damaged."""
    epoch: int | None
    schema_version: int | None
    batches: tuple[SegmentBatch, ...]
    good_bytes: int
    """Length of the verified prefix: the head and `batches`."""
    size_bytes: int
    problem: str | None
    corrupt: bool
    """True: rows that were acknowledged may be missing. False with a problem: a tail, never acknowledged."""

    @property
    def clean(self) -> bool:
        """Whether every byte of the file was verified."""
        return self.problem is None

    @property
    def rows(self) -> int:
        """Rows in `batches`."""
        return sum(batch.data.num_rows for batch in self.batches)

    @property
    def newer(self) -> bool:
        """Whether a later version of the table wrote it: it has columns that this version does not know."""
        return self.schema_version is not None and self.schema_version > SCHEMA_VERSION

    def table(self) -> pa.Table:
        """The verified rows under this version's schema; null where an older one lacks a column.

        Raises:
            ValueError: A newer version gave a column another type, or took a required one away.
        """
        if not self.batches:
            return ARROW_SCHEMA.empty_table()
        return conform(pa.Table.from_batches([batch.data for batch in self.batches]))


@dataclass(frozen=True, slots=True)
class SegmentCursor:
    """How far a segment was followed; begin with ``SegmentCursor(path)``."""

    path: Path
    head: bytes = b""
    """Its verified head; empty: not whole yet."""
    offset: int = 0
    """All bytes before it are verified."""
    next_seq: int = 0


def conform(rows: pa.Table) -> pa.Table:
    """Return the rows under `ARROW_SCHEMA`: missing columns null, unknown ones left out.

    Raises:
        ValueError: A column has another type, or a required one is missing.
    """
    columns = []
    for field in ARROW_SCHEMA:
        at = rows.schema.get_field_index(field.name)
        if at < 0 and not field.nullable:
            raise ValueError(f"the column {field.name} is missing")
        if at >= 0 and rows.schema.field(at).type != field.type:
            raise ValueError(f"the column {field.name} is {rows.schema.field(at).type}, not {field.type}")
        columns.append(rows.column(at) if at >= 0 else pa.nulls(rows.num_rows, field.type))
    return pa.Table.from_arrays(columns, schema=ARROW_SCHEMA)


def read_segment(path: Path) -> SegmentReadout:
    """Read and verify one segment; blocks, holds the whole file in memory, changes nothing.

    Returns:
        Every batch up to the first damage. Never a row that was not written; damage is told in ``problem``.

    Raises:
        OSError: The file cannot be read (a damaged one can).
    """
    manifest, manifest_problem = _read_manifest(path)
    sealed = manifest is not None or manifest_problem is not None
    data = path.read_bytes()
    scan = _scan(data)
    problem, corrupt = scan.problem, scan.problem is not None and (sealed or scan.resumes)
    if manifest is not None:
        problem = _manifest_mismatch(manifest, data, scan) or problem
        corrupt = problem is not None
    elif manifest_problem is not None:
        problem, corrupt = manifest_problem, True
    return SegmentReadout(
        path=path,
        sealed=sealed,
        writer=scan.head.get("writer"),
        epoch=int(scan.head["epoch"]) if "epoch" in scan.head else None,
        schema_version=int(scan.head["schema_version"]) if "schema_version" in scan.head else None,
        batches=tuple(scan.batches),
        good_bytes=scan.good_bytes,
        size_bytes=len(data),
        problem=problem,
        corrupt=corrupt,
    )


def read_on(cursor: SegmentCursor) -> tuple[SegmentCursor, list[SegmentBatch]]:
    """Return the next whole batches of a segment that may grow, and the cursor after them; none: that is all so far.

    Reads a few megabytes at a time, or one batch if that is larger; call it until nothing comes. Never passes a
    batch that `read_segment` would not give. Where bytes are damaged it stays, as `read_segment` would.

    Raises:
        OSError: The file cannot be read; FileNotFoundError if it was recovered or compacted away.
    """
    with cursor.path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        window = READ_ON_BYTES
        while True:
            file.seek(cursor.offset)
            # Behind the head, so that Arrow can decode them.
            data = cursor.head + file.read(window)
            head = _read_head(data)
            if head is not None:
                walk = _walk(data, head, cursor.next_seq if cursor.head else head.first_seq)
                moved = cursor.offset - len(cursor.head)
                cursor = SegmentCursor(cursor.path, data[: head.size_bytes], walk.good_bytes + moved, walk.next_seq)
                if walk.batches:
                    return cursor, [replace(batch, start_byte=batch.start_byte + moved) for batch in walk.batches]
            if cursor.offset + window >= size:
                return cursor, []
            window *= 2


def read_batch(path: Path, head: bytes, start_byte: int, size_bytes: int) -> pa.RecordBatch | None:
    """Read one batch again, of which `read_on` told the place; None: its bytes have changed since.

    Raises:
        OSError: The file cannot be read; FileNotFoundError if it was recovered or compacted away.
    """
    with path.open("rb") as file:
        file.seek(start_byte)
        data = head + file.read(size_bytes)
    if verified_end(pa.py_buffer(data), len(head), "record batch", zlib.crc32(head)) != len(data):
        return None
    with pa.ipc.open_stream(data) as stream:
        return stream.read_next_batch()


@dataclass(frozen=True, slots=True)
class _Head:
    fields: dict[str, str]
    size_bytes: int
    crc: int

    @property
    def first_seq(self) -> int:
        return int(self.fields["first_seq"])


@dataclass(frozen=True, slots=True)
class _Walk:
    """The whole batches after a head, one after the other."""

    batches: list[SegmentBatch]
    good_bytes: int
    """Where the last of them ends."""
    next_seq: int
    problem: str | None
    """The next message is whole, but not of this place."""


@dataclass(slots=True)
class _Scan:
    head: dict[str, str]
    batches: list[SegmentBatch]
    good_bytes: int
    problem: str | None
    resumes: bool
    """A batch was written after the damaged part was durable: a torn last write cannot look like that."""


def _scan(data: bytes) -> _Scan:
    head = _read_head(data)
    if head is None:
        return _Scan({}, [], 0, "the head is not whole", resumes=data.count(CRC_MARK) > 1)
    walk = _walk(data, head, head.first_seq)
    good = walk.good_bytes
    if walk.problem is not None:
        return _Scan(head.fields, walk.batches, good, f"{walk.problem}, at byte {good}", resumes=True)
    if good == len(data):
        return _Scan(head.fields, walk.batches, good, None, resumes=False)
    resumes = _resumes(data, pa.py_buffer(data), good, head.crc)
    what = "damage before a whole batch" if resumes else "a tail that is not a whole batch"
    return _Scan(head.fields, walk.batches, good, f"{what}: {len(data) - good} bytes from byte {good}", resumes)


def _read_head(data: bytes) -> _Head | None:
    schema, end = read_head(pa.py_buffer(data))
    if schema is None:
        return None
    fields = {key.decode(): value.decode() for key, value in schema.metadata.items()}
    return _Head(fields, end, zlib.crc32(memoryview(data)[:end]))


def _walk(data: bytes, head: _Head, first_seq: int) -> _Walk:
    """``data``: the head, and messages of which the first should have the sequence ``first_seq``."""
    buffer = pa.py_buffer(data)
    ends = []
    end = head.size_bytes
    while end < len(data) and (after := verified_end(buffer, end, "record batch", head.crc)) is not None:
        end = after
        ends.append(end)
    # Decoded only now: Arrow never sees, as data, a byte that was not verified.
    batches: list[SegmentBatch] = []
    good, expected = head.size_bytes, first_seq
    with pa.ipc.open_stream(buffer[:end]) as stream:
        for after in ends:
            batch, metadata = stream.read_next_batch_with_custom_metadata()
            problem = _sequence_problem(metadata, head.fields["writer"], expected, batch.num_rows)
            if problem is not None:
                return _Walk(batches, good, expected, problem)
            batches.append(SegmentBatch(expected, batch, good, after - good))
            good, expected = after, expected + batch.num_rows
    return _Walk(batches, good, expected, None)


def _resumes(data: bytes, buffer: pa.Buffer, start: int, head_crc: int) -> bool:
    """Whether a whole batch begins somewhere after ``start``; messages begin at multiples of eight."""
    at = data.find(CONTINUATION, start + 1)
    while at >= 0:
        if at % 8 == 0 and verified_end(buffer, at, "record batch", head_crc) is not None:
            return True
        at = data.find(CONTINUATION, at + 1)
    return False


def _sequence_problem(metadata: Any, writer: str, expected: int, rows: int) -> str | None:
    if metadata is None or metadata.get(b"writer") != writer.encode():
        return "a batch of another writer"
    if metadata[b"first_seq"] != str(expected).encode():
        return f"sequence {metadata[b'first_seq'].decode()} where {expected} is due"
    if metadata[b"n"] != str(rows).encode():
        return f"{rows} rows where {metadata[b'n'].decode()} were written"
    return None


def sealed_problem(manifest_text: bytes, data: bytes) -> str | None:
    """What is wrong with the bytes of a sealed segment, by its manifest alone, in words; None: nothing."""
    manifest, problem = _decode_manifest(manifest_text)
    return problem if manifest is None else _bytes_mismatch(manifest, data)


def _read_manifest(segment: Path) -> tuple[Manifest | None, str | None]:
    try:
        return _decode_manifest(manifest_path(segment).read_bytes())
    except FileNotFoundError:
        return None, None


def _decode_manifest(text: bytes) -> tuple[Manifest | None, str | None]:
    try:
        return Manifest(**json.loads(text)), None
    except (TypeError, ValueError) as error:
        return None, f"the manifest cannot be read: {error}"


def _bytes_mismatch(manifest: Manifest, data: bytes) -> str | None:
    if len(data) != manifest.size_bytes:
        return f"{len(data)} bytes where the manifest says {manifest.size_bytes}"
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        return "the sha256 is not the manifest's"
    return None


def _manifest_mismatch(manifest: Manifest, data: bytes, scan: _Scan) -> str | None:
    problem = _bytes_mismatch(manifest, data)
    if problem is not None:
        return f"{problem}; {scan.problem or 'all batches are whole'}"
    rows = sum(batch.data.num_rows for batch in scan.batches)
    if scan.problem is None and rows != manifest.rows:
        return f"{rows} rows where the manifest says {manifest.rows}"
    return None
