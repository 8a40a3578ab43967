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

import json
import struct
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]

from deployments.feedback.files import FileLayer, replace_file
from deployments.feedback.schema import ARROW_SCHEMA, SCHEMA_VERSION

FORMAT = "1"
SEGMENT_SUFFIX = ".arrows"
# The mark is inside the value because a flatbuffer does not promise that a value lies beside its key.
CRC_MARK = b"crc32="
_NO_CRC = CRC_MARK + b"00000000"
CONTINUATION = b"\xff\xff\xff\xff"
_OPTIONS = pa.ipc.IpcWriteOptions()  # given, or Arrow looks them up in the environment for every batch
_PREFIX_BYTES = 8
"""0xFFFFFFFF and the int32 length of the metadata."""


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


def encode_batch(batch: pa.RecordBatch, writer_id: str, first_seq: int, head_crc: int) -> bytearray:
    """Return the bytes of one batch message, CRC set.

    Args:
        batch: Whole rows, as `schema.to_batch` makes them; at least one.
        writer_id: As in the head.
        first_seq: Sequence of the first row.
        head_crc: CRC-32 of the head's bytes: a batch belongs to one head.
    """
    metadata = {
        "writer": writer_id,
        "first_seq": str(first_seq),
        "n": str(batch.num_rows),
        "crc32": _NO_CRC.decode(),
    }
    # A stream of its own for each batch, whose schema message is cut off: the bytes are those that one long
    # stream would write, and they arrive as one buffer. A Python sink would see some 150 small writes.
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, ARROW_SCHEMA, options=_OPTIONS) as stream:
        stream.write_batch(batch, custom_metadata=metadata)
        end = sink.tell()
    whole = memoryview(sink.getvalue())
    return _with_crc(bytearray(whole[_framed_bytes(whole) : end]), seed=head_crc)


def epoch_directory(directory: Path, writer_id: str, epoch: int) -> Path:
    """Return where the segments of one incarnation of a writer lie."""
    return directory / f"writer={writer_id}" / f"epoch={epoch}"


def write_manifest(segment: Path, manifest: Manifest, files: FileLayer) -> None:
    """Seal the segment: durable and whole on return, or as if never begun."""
    text = json.dumps(asdict(manifest), indent=2, sort_keys=True) + "\n"
    replace_file(manifest_path(segment), text.encode(), files)


def read_head(buffer: pa.Buffer) -> tuple[pa.Schema | None, int]:
    """The schema and the length of its message; (None, 0) unless every byte of it is as written."""
    end = verified_end(buffer, 0, "schema", seed=0)
    if end is None:
        return None, 0
    schema = pa.ipc.read_schema(buffer[:end])
    # A format that a later version wrote is not ours to read.
    return (schema, end) if schema.metadata[b"format"] == FORMAT.encode() else (None, 0)


def verified_end(buffer: pa.Buffer, start: int, kind: str, seed: int) -> int | None:
    """The end of the message of this kind at ``start`` if every byte of it is as written, else None."""
    data = memoryview(buffer).cast("B")[start:]  # a view of an Arrow buffer has signed bytes
    if len(data) < _PREFIX_BYTES or data[:4] != CONTINUATION:
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
    found = metadata.find(CRC_MARK)
    digits = found + len(CRC_MARK)
    return digits if found >= 0 and digits + 8 <= len(metadata) else None


def _framed_bytes(message: bytes | bytearray | memoryview) -> int:
    """Length of a message's prefix and metadata: all of it, for a schema, which has no body."""
    size: int = struct.unpack_from("<i", message, 4)[0]
    return _PREFIX_BYTES + size
