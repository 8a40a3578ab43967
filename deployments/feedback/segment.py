"""One segment of the log: a file of Arrow IPC stream format that says of every byte whether it is whole.

Arrow IPC has no checksum, and a run of zeros reads as a clean end of stream, so we add (all of it invisible
to other Arrow readers):

- The schema message (the *head*) carries ``{format, schema_version, writer, epoch, segment, first_seq, crc32}``.
- Each batch carries ``{writer, first_seq, n, crc32}``.
- A CRC-32 covers every byte of its message, framing and metadata included, its own eight digits read as zeros.
  A batch's starts from the CRC of the head's bytes, so it belongs to one head. It is over bytes, not over
  re-encoded data: no version of Arrow can make an old segment look broken.
- There is no end-of-stream mark (the format allows it): any zero word between messages is damage.
- A segment is *sealed* by a manifest ``{rows, first_seq, last_seq, size_bytes, sha256, ...}``, renamed into
  place beside it.

Damage at the end of an unsealed segment is a tail: what a crash in mid-write leaves, never acknowledged.
Damage in a sealed one, in a head with batches, or before a whole batch, is corruption, and is reported. (A bit
that flips in the last batch of an unsealed segment cannot be told from a torn write; it counts as a tail.)

Format: https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format
"""

import hashlib
import json
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from deployments.feedback.files import FileLayer, ensure_directory, replace_file, write_all
from deployments.feedback.schema import ARROW_SCHEMA, SCHEMA_VERSION

FORMAT = "1"
SEGMENT_SUFFIX = ".arrows"
_WRITER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# The mark is inside the value because a flatbuffer does not promise that a value lies beside its key.
_CRC_MARK = b"crc32="
_NO_CRC = _CRC_MARK + b"00000000"
_CONTINUATION = b"\xff\xff\xff\xff"
_PREFIX_BYTES = 8
"""0xFFFFFFFF and the int32 length of the metadata."""


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """What the rotation decision looks at."""

    rows: int
    size_bytes: int
    opened_at_s: float


@dataclass(frozen=True, slots=True)
class RotationLimits:
    """When a segment is full. Reaching any one is enough."""

    max_bytes: int = 64 * 2**20
    """A segment is read whole into memory."""
    max_rows: int = 100_000
    max_age_s: float = 300.0
    """Bounds how long analysis and training wait for a row."""


def should_rotate(facts: SegmentFacts, limits: RotationLimits, now_s: float) -> bool:
    """Return whether to seal this segment. An empty one is never sealed: there is nothing to keep."""
    return facts.rows > 0 and (
        facts.size_bytes >= limits.max_bytes
        or facts.rows >= limits.max_rows
        or now_s - facts.opened_at_s >= limits.max_age_s
    )


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a sealed segment must be."""

    segment: str
    writer: str
    epoch: int
    schema_version: int
    rows: int
    first_seq: int
    last_seq: int
    size_bytes: int
    sha256: str
    format: str = FORMAT


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


def manifest_path(segment: Path) -> Path:
    """Return where the manifest of this segment lies, whether or not it does."""
    return segment.with_name(segment.name.removesuffix(SEGMENT_SUFFIX) + ".manifest.json")


def encode_head(writer_id: str, epoch: int, number: int, first_seq: int) -> bytearray:
    """Return the first bytes of a segment: its schema message."""
    head = {
        "format": FORMAT,
        "schema_version": str(SCHEMA_VERSION),
        "writer": writer_id,
        "epoch": str(epoch),
        "segment": str(number),
        "first_seq": str(first_seq),
        "crc32": _NO_CRC.decode(),
    }
    sink = pa.BufferOutputStream()
    pa.ipc.new_stream(sink, ARROW_SCHEMA.with_metadata(head)).close()
    stream = memoryview(sink.getvalue())
    return _with_crc(bytearray(stream[: _framed_bytes(stream)]), seed=0)


def encode_batch(rows: Sequence[Mapping[str, Any]], writer_id: str, first_seq: int, head_crc: int) -> bytearray:
    """Return the bytes of one batch message, CRC set.

    Args:
        rows: Whole rows, as `schema.to_row` makes them; at least one.
        writer_id: As in the head.
        first_seq: Sequence of the first row.
        head_crc: CRC-32 of the head's bytes: a batch belongs to one head.
    """
    batch = pa.RecordBatch.from_pylist(rows, schema=ARROW_SCHEMA)
    metadata = {
        "writer": writer_id,
        "first_seq": str(first_seq),
        "n": str(len(rows)),
        "crc32": _NO_CRC.decode(),
    }
    # A stream of its own for each batch, whose schema message is cut off: the bytes are those that one long
    # stream would write, and they arrive as one buffer. A Python sink would see some 150 small writes.
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, ARROW_SCHEMA) as stream:
        stream.write_batch(batch, custom_metadata=metadata)
        end = sink.tell()
    whole = memoryview(sink.getvalue())
    return _with_crc(bytearray(whole[_framed_bytes(whole) : end]), seed=head_crc)


class SegmentWriter:
    """Writes the segments of one writer's incarnation, one after the other: ``seg-000000.arrows``, ...

    A file is created at the first append after construction or `seal`, so idle writers leave no empty files.
    Sequences run on across segments. After any OSError it refuses all further work: Linux marks the pages of
    a failed sync as clean, so a second fdatasync would lie ("Can Applications Recover from fsync Failures?",
    USENIX ATC 2020). Not safe for concurrent use. Every method blocks.

    Args:
        directory: Root of the log.
        writer_id: 1-64 of ``A-Z a-z 0-9 _ -``.
        epoch: Incarnation of this writer; a pair (writer_id, epoch) is used once (`claim_epoch` sees to it).
        files: Where writes go.
    """

    def __init__(self, directory: Path, writer_id: str, epoch: int, files: FileLayer) -> None:
        if not _WRITER_ID.fullmatch(writer_id):
            raise ValueError(f"writer_id {writer_id!r} must be 1-64 of A-Z a-z 0-9 _ -")
        self.writer_id = writer_id
        self.epoch = epoch
        self.directory = epoch_directory(directory, writer_id, epoch)
        self._root = directory
        self._files = files
        self._fd: int | None = None
        self._broken = False
        self._number = -1
        self._next_seq = 0
        self._first_seq = 0
        self._head_crc = 0
        self._sha256 = hashlib.sha256()
        self.rows = 0
        """Rows in the open segment."""
        self.size_bytes = 0
        """Size of the open segment."""
        ensure_directory(self.directory, files)

    @property
    def path(self) -> Path:
        """The segment of the latest append."""
        return self.directory / f"seg-{self._number:06d}{SEGMENT_SUFFIX}"

    @property
    def name(self) -> str:
        """`path` below the log's root, for acknowledgements."""
        return self.path.relative_to(self._root).as_posix()

    def append(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Write whole rows as one batch and return the sequence of the first. Not durable before `sync`."""
        with self._work():
            if self._fd is None:
                self._open()
            first_seq = self._next_seq
            message = encode_batch(rows, self.writer_id, first_seq, self._head_crc)
            self._write(message)
        self._next_seq += len(rows)
        self.rows += len(rows)
        return first_seq

    def sync(self) -> None:
        """Return when all that was appended survives a power cut."""
        with self._work():
            if self._fd is not None:
                self._files.fdatasync(self._fd)

    def seal(self) -> Manifest | None:
        """Make the open segment final: sync it, rename its manifest into place. None: there was nothing open."""
        if self._fd is None:
            return None
        with self._work():
            self._files.fdatasync(self._fd)
            self._close_file()
            manifest = Manifest(
                segment=self.path.name,
                writer=self.writer_id,
                epoch=self.epoch,
                schema_version=SCHEMA_VERSION,
                rows=self.rows,
                first_seq=self._first_seq,
                last_seq=self._next_seq - 1,
                size_bytes=self.size_bytes,
                sha256=self._sha256.hexdigest(),
            )
            write_manifest(self.path, manifest, self._files)
        self.rows = self.size_bytes = 0
        return manifest

    def close(self) -> None:
        """Let go of an open segment without sealing it: recovery will. Again: nothing."""
        self._broken = True
        if self._fd is not None:
            self._close_file()

    @contextmanager
    def _work(self) -> Iterator[None]:
        if self._broken:
            raise OSError(f"{self.path} failed or was closed before; open a new epoch")
        try:
            yield
        except BaseException:
            self._broken = True
            raise

    def _open(self) -> None:
        self._number += 1
        self._fd = self._files.create(self.path, exclusive=True)
        self._first_seq = self._next_seq
        self._sha256 = hashlib.sha256()
        self.rows = self.size_bytes = 0
        head = encode_head(self.writer_id, self.epoch, self._number, self._first_seq)
        self._head_crc = zlib.crc32(head)
        self._write(head)
        # Once for each segment: a head is durable before any batch, so a damaged one is never a torn write.
        self._files.fdatasync(self._fd)
        self._files.fsync_dir(self.directory)

    def _write(self, data: bytes | bytearray) -> None:
        assert self._fd is not None
        write_all(self._files, self._fd, data)
        self._sha256.update(data)
        self.size_bytes += len(data)

    def _close_file(self) -> None:
        assert self._fd is not None
        fd, self._fd = self._fd, None
        self._files.close(fd)


def epoch_directory(directory: Path, writer_id: str, epoch: int) -> Path:
    """Return where the segments of one incarnation of a writer lie."""
    return directory / f"writer={writer_id}" / f"epoch={epoch}"


def write_manifest(segment: Path, manifest: Manifest, files: FileLayer) -> None:
    """Seal the segment: durable and whole on return, or as if never begun."""
    text = json.dumps(asdict(manifest), indent=2, sort_keys=True) + "\n"
    replace_file(manifest_path(segment), text.encode(), files)


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
    schema, start = _read_head(buffer)
    if schema is None:
        return _Scan({}, [], 0, "the head is not whole", resumes=data.count(_CRC_MARK) > 1)
    head = {key.decode(): value.decode() for key, value in schema.metadata.items()}
    head_crc = zlib.crc32(memoryview(data)[:start])
    ends = []
    end = start
    while end < len(data) and (after := _verified_end(buffer, end, "record batch", head_crc)) is not None:
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


def _read_head(buffer: pa.Buffer) -> tuple[pa.Schema | None, int]:
    """The schema and the length of its message; (None, 0) unless every byte of it is as written."""
    end = _verified_end(buffer, 0, "schema", seed=0)
    if end is None:
        return None, 0
    schema = pa.ipc.read_schema(buffer[:end])
    # A format that a later version wrote is not ours to read.
    return (schema, end) if schema.metadata[b"format"] == FORMAT.encode() else (None, 0)


def _verified_end(buffer: pa.Buffer, start: int, kind: str, seed: int) -> int | None:
    """The end of the message of this kind at ``start`` if every byte of it is as written, else None."""
    data = memoryview(buffer).cast("B")[start:]  # a view of an Arrow buffer has signed bytes
    if len(data) < _PREFIX_BYTES or data[:4] != _CONTINUATION:
        return None
    if not _PREFIX_BYTES < _framed_bytes(data) <= len(data):
        return None
    reader = pa.BufferReader(buffer)
    reader.seek(start)
    try:
        message = pa.ipc.read_message(reader)
    except (pa.ArrowException, OSError, EOFError, ValueError):
        return None
    end: int = reader.tell()
    raw = data[: end - start]
    digits = _crc_digits(raw)
    if message.type != kind or digits is None:
        return None
    return end if raw[digits : digits + 8] == b"%08x" % _crc(raw, digits, seed) else None


def _with_crc(message: bytearray, seed: int) -> bytearray:
    digits = _crc_digits(message)
    assert digits is not None
    message[digits : digits + 8] = b"%08x" % _crc(message, digits, seed)
    return message


def _crc(message: bytearray | memoryview, digits: int, seed: int) -> int:
    """CRC-32 of a message, its own eight digits read as zeros."""
    crc = zlib.crc32(memoryview(message)[:digits], seed)
    return zlib.crc32(memoryview(message)[digits + 8 :], zlib.crc32(b"00000000", crc))


def _crc_digits(message: bytearray | memoryview) -> int | None:
    """Where in a message its eight CRC digits begin; looked for in the metadata only, never in users' text."""
    if len(message) < _PREFIX_BYTES:
        return None
    metadata = bytes(message[: max(_framed_bytes(message), 0)])
    found = metadata.find(_CRC_MARK)
    digits = found + len(_CRC_MARK)
    return digits if found >= 0 and digits + 8 <= len(metadata) else None


def _framed_bytes(message: bytes | bytearray | memoryview) -> int:
    """Length of a message's prefix and metadata: all of it, for a schema, which has no body."""
    size: int = struct.unpack_from("<i", message, 4)[0]
    return _PREFIX_BYTES + size


def _resumes(data: bytes, buffer: pa.Buffer, start: int, head_crc: int) -> bool:
    """Whether a whole batch begins somewhere after ``start``; messages begin at multiples of eight."""
    at = data.find(_CONTINUATION, start + 1)
    while at >= 0:
        if at % 8 == 0 and _verified_end(buffer, at, "record batch", head_crc) is not None:
            return True
        at = data.find(_CONTINUATION, at + 1)
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
