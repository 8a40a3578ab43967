import os
import random
import zlib

import pyarrow as pa
import pytest
from feedback_support import QuickFiles, make_row, make_rows
from hypothesis import given
from hypothesis import strategies as st

from deployments.feedback.schema import to_batch
from deployments.feedback.segment_format import encode_batch, encode_head, manifest_path
from deployments.feedback.segment_reader import read_segment
from deployments.feedback.segment_writer import RotationLimits, SegmentFacts, SegmentWriter, should_rotate

BATCHES = [make_rows(range(0, 3)), make_rows(range(3, 4)), make_rows(range(4, 9))]


def make_segment(directory, *, sealed=False):
    """(path, byte length of the head and after each batch) of a segment of BATCHES."""
    writer = SegmentWriter(directory, "w", 1, QuickFiles())
    ends = []
    for batch in BATCHES:
        writer.append(to_batch(batch))
        ends.append(writer.size_bytes)
    writer.sync()
    if sealed:
        writer.seal()
    writer.close()
    return writer.path, [len(encode_head("w", 1, 0, 0)), *ends]


def rows_of(readout):
    return [row for batch in readout.batches for row in batch.data.to_pylist()]


def rows_up_to(count):
    return [row for batch in BATCHES[:count] for row in batch]


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.mark.parametrize("sealed", [False, True])
def test_what_was_written_is_read_back(log, sealed):
    path, _ = make_segment(log, sealed=sealed)
    readout = read_segment(path)
    assert rows_of(readout) == rows_up_to(3)
    assert [batch.first_seq for batch in readout.batches] == [0, 3, 4]
    assert (readout.clean, readout.sealed, readout.corrupt, readout.writer) == (True, sealed, False, "w")
    assert readout.good_bytes == readout.size_bytes == path.stat().st_size


def test_any_arrow_reader_can_read_a_segment(log):
    path, _ = make_segment(log)
    assert pa.ipc.open_stream(path.read_bytes()).read_all().to_pylist() == rows_up_to(3)


def test_sequences_and_numbers_run_on_across_segments(log):
    writer = SegmentWriter(log, "w", 1, QuickFiles())
    assert [writer.append(to_batch(BATCHES[0])), writer.append(to_batch(BATCHES[1]))] == [0, 3]
    first = writer.seal()
    assert (first.rows, first.first_seq, first.last_seq) == (4, 0, 3)
    assert writer.seal() is None
    assert writer.append(to_batch(BATCHES[2])) == 4
    assert writer.name == "writer=w/epoch=1/seg-000001.arrows"
    assert read_segment(writer.path).batches[0].first_seq == 4


def test_a_segment_is_never_opened_twice(log):
    make_segment(log)
    with pytest.raises(FileExistsError):
        SegmentWriter(log, "w", 1, QuickFiles()).append(to_batch(BATCHES[0]))


@pytest.mark.exhaustive
def test_a_cut_at_every_byte_gives_exactly_the_complete_batches(log):
    path, ends = make_segment(log)
    whole = path.read_bytes()
    for size in reversed(range(ends[2] + 50)):
        os.truncate(path, size)
        readout = read_segment(path)
        complete = sum(size >= end for end in ends[1:])
        assert readout.rows == len(rows_up_to(complete)), size
        assert len(readout.batches) == complete
        assert readout.clean == (size in ends)
        assert not readout.corrupt
        assert readout.good_bytes == max([end for end in ends if end <= size], default=0)
    path.write_bytes(whole[: ends[2] + 9])
    assert rows_of(read_segment(path)) == rows_up_to(2)


def test_a_tail_of_zeros_is_a_tail_where_unsealed(log):
    path, ends = make_segment(log)
    whole = path.read_bytes()
    for end, zeros in [(end, zeros) for end in ends for zeros in (1, 4, 8, 12, 4096)]:
        path.write_bytes(whole[:end] + bytes(zeros))
        readout = read_segment(path)
        assert rows_of(readout) == rows_up_to(ends.index(end))
        assert (readout.clean, readout.corrupt, readout.good_bytes) == (False, False, end)


def test_a_hole_of_zeros_before_a_whole_batch_is_corruption_even_where_unsealed(log):
    path, ends = make_segment(log)
    whole = path.read_bytes()
    path.write_bytes(whole[: ends[1]] + bytes(ends[2] - ends[1]) + whole[ends[2] :])
    readout = read_segment(path)
    assert rows_of(readout) == rows_up_to(1)
    assert readout.corrupt
    assert "before a whole batch" in readout.problem


@pytest.mark.parametrize("sealed", [False, True])
def test_bit_flips_are_detected_and_never_give_a_wrong_row(log, sealed):
    path, ends = make_segment(log, sealed=sealed)
    whole = path.read_bytes()
    random_bits = random.Random(7)
    for _ in range(400):
        flipped = bytearray(whole)
        at = random_bits.randrange(len(whole))
        flipped[at] ^= 1 << random_bits.randrange(8)
        path.write_bytes(flipped)
        readout = read_segment(path)
        assert not readout.clean, at
        before = max(0, sum(at >= end for end in ends) - 1)
        assert rows_of(readout) == (rows_up_to(before) if at >= ends[0] else [])
        # In the last batch of an unsealed segment it looks like a torn write; anywhere else it may have cost
        # acknowledged rows, and is corruption.
        assert readout.corrupt == (sealed or at < ends[2])


def test_bursts_of_random_bytes_never_give_a_wrong_row(log):
    path, _ = make_segment(log)
    whole = path.read_bytes()
    random_bytes = random.Random(11)
    for _ in range(200):
        at, size = random_bytes.randrange(len(whole)), random_bytes.randrange(2, 200)
        path.write_bytes(whole[:at] + random_bytes.randbytes(size) + whole[at + size :])
        rows = rows_of(read_segment(path))
        assert rows in [rows_up_to(count) for count in range(4)]


@given(st.binary(max_size=400))
def test_a_file_of_anything_reads_as_nothing(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "seg-000000.arrows"
    path.write_bytes(data)
    readout = read_segment(path)
    assert (readout.rows, readout.clean) == (0, False)


def test_damage_of_a_sealed_segment_is_reported_whatever_it_looks_like(log):
    path, ends = make_segment(log, sealed=True)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[: ends[2]], whole[: ends[0]], b"", whole + bytes(8), whole + b"x"):
        path.write_bytes(damaged)
        readout = read_segment(path)
        assert readout.corrupt
        assert readout.problem


def test_a_damaged_manifest_is_reported_and_the_rows_are_still_read(log):
    path, _ = make_segment(log, sealed=True)
    for damaged in (b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"rows": 9}'):
        manifest_path(path).write_bytes(damaged)
        readout = read_segment(path)
        assert readout.corrupt
        assert rows_of(readout) == rows_up_to(3)


@pytest.mark.parametrize(("writer", "first_seq"), [("other", 3), ("w", 2), ("w", 4)])
def test_a_whole_batch_of_another_place_is_not_taken(log, writer, first_seq):
    path, ends = make_segment(log)
    whole = path.read_bytes()
    head_crc = zlib.crc32(whole[: ends[0]])
    path.write_bytes(whole[: ends[1]] + encode_batch(to_batch(BATCHES[1]), writer, first_seq, head_crc))
    readout = read_segment(path)
    assert rows_of(readout) == rows_up_to(1)
    assert readout.corrupt


def test_a_batch_under_another_head_is_not_taken(log):
    path, ends = make_segment(log)
    other_head = encode_head("w", 1, 7, 0)
    path.write_bytes(other_head + path.read_bytes()[ends[0] :])
    assert read_segment(path).rows == 0


def test_text_that_looks_like_our_marks_changes_nothing(log):
    writer = SegmentWriter(log, "w", 1, QuickFiles())
    rows = [make_row(0, text="crc32=00000000 \x00\x00\x00\x00 crc32=ffffffff")]
    writer.append(to_batch(rows))
    assert rows_of(read_segment(writer.path)) == rows


def test_a_writer_that_failed_once_refuses_for_good(log):
    files = QuickFiles()
    writer = SegmentWriter(log, "w", 1, files)
    writer.append(to_batch(BATCHES[0]))

    def fail(fd):
        raise OSError("no")

    files.fdatasync = fail
    with pytest.raises(OSError, match="no"):
        writer.sync()
    del files.fdatasync
    for again in (writer.sync, writer.seal, lambda: writer.append(to_batch(BATCHES[1]))):
        with pytest.raises(OSError, match="failed or was closed"):
            again()


def test_a_writer_id_cannot_leave_the_log(log):
    with pytest.raises(ValueError, match="writer_id"):
        SegmentWriter(log, "../../etc", 1, QuickFiles())


@pytest.mark.parametrize(
    ("facts", "full"),
    [
        (SegmentFacts(rows=9, size_bytes=99, opened_at_s=100.0), False),
        (SegmentFacts(rows=10, size_bytes=0, opened_at_s=100.0), True),
        (SegmentFacts(rows=1, size_bytes=100, opened_at_s=100.0), True),
        (SegmentFacts(rows=1, size_bytes=0, opened_at_s=90.0), True),
        (SegmentFacts(rows=0, size_bytes=100, opened_at_s=0.0), False),
    ],
)
def test_a_segment_is_full_by_rows_bytes_or_age_but_not_when_empty(facts, full):
    limits = RotationLimits(max_bytes=100, max_rows=10, max_age_s=10.0)
    assert should_rotate(facts, limits, now_s=100.0) is full
