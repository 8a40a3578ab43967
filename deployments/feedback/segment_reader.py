"""Reads and verifies a segment: every batch up to the first damage, and what that damage is. See `segment_format`."""

import hashlib
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from deployments.feedback.segment_format import (
    CONTINUATION,
    CRC_MARK,
    Manifest,
    manifest_path,
    read_head,
    verified_end,
)


@dataclass(frozen=True, slots=True)
class SegmentBatch:
    """One verified batch; row i has the sequence ``first_seq + i``."""

    first_seq: int
    data: pa.RecordBatch


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


@dataclass(slots=True)
class _Scan:
    head: dict[str, str]
    batches: list[SegmentBatch]
    good_bytes: int
    problem: str | None
    resumes: bool
    """A batch was written after the damaged part was durable: a torn last write cannot look like that."""


def _scan(data: bytes) -> _Scan:
    buffer = pa.py_buffer(data)
    schema, start = read_head(buffer)
    if schema is None:
        return _Scan({}, [], 0, "the head is not whole", resumes=data.count(CRC_MARK) > 1)
    head = {key.decode(): value.decode() for key, value in schema.metadata.items()}
    head_crc = zlib.crc32(memoryview(data)[:start])
    ends = []
    end = start
    while end < len(data) and (after := verified_end(buffer, end, "record batch", head_crc)) is not None:
        end = after
        ends.append(end)
    # Decoded only now: Arrow never sees, as data, a byte that was not verified.
    batches: list[SegmentBatch] = []
    good, expected, problem = start, int(head["first_seq"]), None
    with pa.ipc.open_stream(buffer[:end]) as stream:
        for after in ends:
            batch, metadata = stream.read_next_batch_with_custom_metadata()
            problem = _sequence_problem(metadata, head["writer"], expected, batch.num_rows)
            if problem is not None:
                return _Scan(head, batches, good, f"{problem}, at byte {good}", resumes=True)
            batches.append(SegmentBatch(expected, batch))
            good, expected = after, expected + batch.num_rows
    if end == len(data):
        return _Scan(head, batches, good, None, resumes=False)
    resumes = _resumes(data, buffer, end, head_crc)
    what = "damage before a whole batch" if resumes else "a tail that is not a whole batch"
    return _Scan(head, batches, good, f"{what}: {len(data) - end} bytes from byte {end}", resumes)


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


def _read_manifest(segment: Path) -> tuple[Manifest | None, str | None]:
    try:
        text = manifest_path(segment).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None, None
    except UnicodeDecodeError:
        return None, "the manifest is not text"
    try:
        manifest = Manifest(**json.loads(text))
    except (TypeError, ValueError) as error:
        return None, f"the manifest cannot be read: {error}"
    return manifest, None


def _manifest_mismatch(manifest: Manifest, data: bytes, scan: _Scan) -> str | None:
    if len(data) != manifest.size_bytes:
        return f"{len(data)} bytes where the manifest says {manifest.size_bytes}"
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        return f"the sha256 is not the manifest's; {scan.problem or 'all batches are whole'}"
    rows = sum(batch.data.num_rows for batch in scan.batches)
    if scan.problem is None and rows != manifest.rows:
        return f"{rows} rows where the manifest says {manifest.rows}"
    return None
