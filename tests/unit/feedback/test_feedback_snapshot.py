import pyarrow.parquet as pq
import pytest
from archive_support import LiveWriter, all_rows, write_epoch, write_newer, write_version, write_version_1
from feedback_support import QuickFiles, make_row, make_rows

from deployments.feedback import snapshot
from deployments.feedback.compaction import compact
from deployments.feedback.directory import read_log, recover
from deployments.feedback.lookup import LogReader
from deployments.feedback.schema import ARROW_SCHEMA, SCHEMA_VERSION, is_intact
from deployments.feedback.segment_reader import read_segment
from deployments.feedback.snapshot import Integrity, open_snapshot
from graph.errors import InternalError


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def ids(*numbers):
    return [f"event-{number:05d}" for number in numbers]


def tail_ids(log):
    return open_snapshot(log).tail.column("event_id").to_pylist()


def test_a_log_that_does_not_exist_is_empty(log):
    found = open_snapshot(log)
    assert (found.parquet, found.problems) == ((), ())
    assert found.tail.equals(ARROW_SCHEMA.empty_table())
    assert found.integrity == Integrity(0, 0, 0, 0, 0, 0, 0)


def test_the_tail_has_every_row_in_log_order_sealed_or_not(log):
    write_epoch(log, 2, make_rows([5, 4]), make_rows([3]), seal=False)
    write_epoch(log, 1, make_rows([2, 9]))
    found = open_snapshot(log)
    assert found.tail.to_pylist() == make_rows([2, 9, 5, 4, 3])
    assert (found.integrity.segments, found.integrity.unsealed, found.integrity.tail_rows) == (2, 1, 5)


def test_of_rows_with_equal_event_ids_the_first_written_is_kept(log):
    write_epoch(log, 1, [make_row(1, text="first"), make_row(2), make_row(1, text="again")])
    write_epoch(log, 2, make_rows([3]))
    write_epoch(log, 3, [make_row(1, text="later"), make_row(4)])
    found = open_snapshot(log)
    assert found.tail.to_pylist() == [make_row(1, text="first"), *make_rows([2, 3, 4])]
    assert found.integrity.duplicates == 2


def test_rows_that_the_archive_has_are_not_in_the_tail(log):
    write_epoch(log, 1, make_rows(range(10)))
    compact(log, QuickFiles())
    write_epoch(log, 2, [make_row(3, text="again"), make_row(10)])
    found = open_snapshot(log)
    assert found.tail.to_pylist() == [make_row(10)]
    assert found.integrity.duplicates == 1
    assert all_rows(log) == {row["event_id"]: row for row in make_rows(range(11))}


def test_rows_of_an_older_table_have_null_for_what_came_later_and_stay_intact(log, monkeypatch):
    write_version_1(monkeypatch, log, 1, make_rows([1, 2]))
    write_epoch(log, 2, [make_row(3, quality_score=0.5)])
    found = open_snapshot(log)
    assert found.tail.schema.equals(ARROW_SCHEMA)
    rows = found.tail.to_pylist()
    assert [row["quality_score"] for row in rows] == [None, None, 0.5]
    assert [row["schema_version"] for row in rows] == [1, 1, SCHEMA_VERSION]
    assert all(map(is_intact, rows))
    assert found.integrity.newer == 0


def test_rows_of_a_newer_table_are_read_as_far_as_they_are_known_and_it_is_told(log, monkeypatch):
    write_newer(monkeypatch, log, 1, make_rows([1]))
    found = open_snapshot(log)
    assert found.tail.column("text").to_pylist() == [make_row(1)["text"]]
    assert found.integrity.newer == 1
    assert "Upgrade" in found.problems[0]


def test_a_newer_table_that_cannot_be_read_is_told_and_stops_nothing(log, monkeypatch):
    arrow = ARROW_SCHEMA.set(ARROW_SCHEMA.get_field_index("text"), ARROW_SCHEMA.field("value_num").with_name("text"))
    write_version(monkeypatch, log, 1, [{**make_row(1), "text": 1.0}], SCHEMA_VERSION + 1, arrow)
    write_epoch(log, 2, make_rows([2]))
    found = open_snapshot(log)
    assert found.tail.to_pylist() == make_rows([2])
    assert any("cannot be read" in problem for problem in found.problems)


def test_a_corrupt_segment_gives_its_whole_batches_and_is_told(log):
    path = write_epoch(log, 1, make_rows([1]), make_rows([2]))
    path.write_bytes(path.read_bytes()[:-40] + b"\xaa" * 40)
    found = open_snapshot(log)
    assert found.tail.to_pylist() == make_rows([1])
    assert found.integrity.corrupt == 1
    assert path.name in found.problems[0]


def test_a_torn_tail_is_no_problem_and_originals_in_quarantine_are_counted(log):
    path = write_epoch(log, 1, make_rows([1]), seal=False)
    path.write_bytes(path.read_bytes() + b"torn")
    assert open_snapshot(log).problems == ()
    recover(log, QuickFiles())
    found = open_snapshot(log)
    assert found.tail.to_pylist() == make_rows([1])
    assert (found.integrity.quarantined, found.integrity.unsealed) == (1, 0)


def test_a_snapshot_of_a_log_that_is_written_meanwhile_has_what_was_there_before(log):
    writer = LiveWriter(log)
    writer.write(*make_rows([1]))
    found = open_snapshot(log)
    writer.write(*make_rows([2]))
    writer.seal()
    assert found.tail.to_pylist() == make_rows([1])
    assert tail_ids(log) == ids(1, 2)
    writer.close()


@pytest.mark.parametrize("moment", ["before the first read", "after the first read", "after the listing"])
def test_a_snapshot_is_whole_although_a_compaction_commits_while_it_is_taken(log, monkeypatch, moment):
    for epoch in range(1, 4):
        write_epoch(log, epoch, make_rows(range(epoch * 10, epoch * 10 + 10)))
    left = [1]

    def compact_once():
        if left[0]:
            left[0] = 0
            compact(log, QuickFiles())

    def read(path):
        if moment == "before the first read":
            compact_once()
        readout = read_segment(path)
        compact_once()
        return readout

    def list_late(root):
        # The manifest was read before; the segments are gone when they are listed.
        compact_once()
        return list_segments(root)

    list_segments = snapshot.list_segments
    if moment == "after the listing":
        monkeypatch.setattr(snapshot, "list_segments", list_late)
    else:
        monkeypatch.setattr(snapshot, "read_segment", read)
    found = open_snapshot(log)
    assert left == [0]
    rows = found.tail.to_pylist() + [row for path in found.parquet for row in pq.ParquetFile(path).read().to_pylist()]
    assert sorted(row["event_id"] for row in rows) == ids(*range(10, 40))


def test_a_log_that_never_holds_still_is_an_error_and_no_endless_loop(log, monkeypatch):
    write_epoch(log, 1, make_rows([1]))

    def gone(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(snapshot, "read_segment", gone)
    with pytest.raises(InternalError, match="try again"):
        open_snapshot(log)


def test_a_file_of_the_archive_that_is_gone_for_good_is_an_error_for_every_reader(log):
    write_epoch(log, 1, make_rows(range(3)))
    compact(log, QuickFiles())
    reader = LogReader(log)
    reader.event("event-00001")
    for path in (log / "archive").glob("*.parquet"):
        path.unlink()
    write_epoch(log, 2, make_rows([1]))
    for read in (lambda: open_snapshot(log), lambda: reader.event("event-00001"), lambda: compact(log, QuickFiles())):
        with pytest.raises(InternalError, match="is missing"):
            read()
    assert [row["event_id"] for row in read_log(log)] == ids(1)
