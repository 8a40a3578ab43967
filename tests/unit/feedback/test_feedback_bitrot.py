import pytest
from feedback_support import QuickFiles

from benchmarks.durability.bitrot import bitrot
from benchmarks.durability.reading import read_snapshot
from benchmarks.durability.segments import write_segment
from deployments.feedback.compaction import compact
from deployments.feedback.lookup import LogReader
from deployments.feedback.schema import is_intact
from graph.errors import InternalError

pytestmark = pytest.mark.exhaustive


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    outcome = bitrot(300, seed=5, scratch=tmp_path_factory.mktemp("bitrot"), processes=1)
    *rows, total = outcome.rows
    assert total["flips"] == 300
    return rows


def test_flipped_bits_give_no_reader_a_wrong_row(rows):
    for row in rows:
        assert (row["flips"], row["silent"], row["crashed"]) == (30, 0, 0), row


def test_what_has_a_checksum_over_every_byte_takes_no_flip_without_a_word(rows):
    for row in rows:
        if row["reader"] == "sha256" or (
            row["reader"] == "snapshot" and row["file"] in ("sealed segment", "archive manifest")
        ):
            assert row["detected"] == 30, row


def test_no_reader_misses_rows_of_a_damaged_file_without_a_word(rows):
    assert [row for row in rows if row["not found"]] == []


@pytest.fixture
def archive(tmp_path):
    """(root, the Parquet file's path) of a log whose rows are in the archive, and again in a segment."""
    root = tmp_path / "log"
    root.mkdir()
    batches = [["event-0", "event-1"], ["event-2"]]
    write_segment(root, "first", batches, sealed=True)
    compact(root, QuickFiles())
    write_segment(root, "second", batches, sealed=True)
    (path,) = (root / "archive").glob("*.parquet")
    return root, path


def flips_of(path, text):
    """The file with one bit flipped in each byte of each place in its footer where this text is; put right after."""
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    at = whole.find(text, footer)
    assert at > 0
    while at > 0:
        for place in range(at, at + len(text)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            yield place
        at = whole.find(text, at + 1)
    path.write_bytes(whole)


def test_damaged_statistics_of_a_parquet_file_do_not_let_a_row_through_twice(archive):
    root, path = archive
    for bound in (b"event-0", b"event-2"):
        for place in flips_of(path, bound):
            try:
                reading = read_snapshot(root)
            except InternalError:
                continue
            assert reading.faults == 0, place


def test_a_look_up_calls_a_parquet_file_without_one_of_its_columns_damaged_or_gives_the_row_whole(archive):
    root, path = archive
    refused = 0
    for place in flips_of(path, b"schema_version"):
        try:
            row = LogReader(root).event("event-1")
        except InternalError:
            refused += 1
        else:
            assert row is not None, place
            assert is_intact(row), place
    assert refused
