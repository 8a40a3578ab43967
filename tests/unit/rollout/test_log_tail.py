import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "feedback"))

from archive_support import LiveWriter, write_epoch, write_version_1
from feedback_support import QuickFiles, make_row, make_rows

from deployments.feedback.archive import archive_manifest_path
from deployments.feedback.compaction import compact
from deployments.feedback.directory import recover
from deployments.rollout import log_tail
from deployments.rollout.log_tail import LogTail
from graph.errors import InternalError

COLUMNS = ("event_id", "kind", "text", "failed_checks")
T0 = 1_700_000_000_000_000
"""The time of ``make_row(0)``; each later one is a microsecond later."""


def make_tail(log, since_us=0, kinds=("comment",)):
    return LogTail(log, since_us, kinds, COLUMNS)


def ids(found):
    return sorted(row["event_id"] for row in found.rows)


def named(*numbers):
    return [f"event-{number:05d}" for number in numbers]


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def live(log):
    writer = LiveWriter(log)
    yield writer
    writer.close()


def test_a_log_that_does_not_exist_yet_has_nothing_new(log):
    tail = make_tail(log)
    assert tail.read() == log_tail.NewRows([], True)
    assert tail.read() == log_tail.NewRows([], False)


def test_each_call_gives_what_was_written_since_the_last(log, live):
    tail = make_tail(log)
    live.write(*make_rows((0, 1)))
    assert ids(tail.read()) == named(0, 1)
    assert tail.read().rows == []
    live.write(make_row(2))
    live.write(make_row(3))
    found = tail.read()
    assert (ids(found), found.restarted) == (named(2, 3), False)


def test_only_the_kinds_columns_and_time_asked_for_come(log, live):
    live.write(*make_rows(range(4)), make_row(9, kind="rating"))
    (row, _) = make_tail(log, T0 + 2).read().rows
    assert row == {"event_id": "event-00002", "kind": "comment", "text": make_row(2)["text"], "failed_checks": None}


def test_rows_are_found_wherever_they_are_when_the_tail_begins(log, live):
    write_epoch(log, 1, make_rows(range(3)))
    compact(log, QuickFiles())
    write_epoch(log, 5, make_rows((3,)))
    live.write(make_row(4))
    assert ids(make_tail(log).read()) == named(0, 1, 2, 3, 4)
    assert ids(make_tail(log, T0 + 2).read()) == named(2, 3, 4)


def test_rows_of_an_earlier_version_of_the_table_lack_its_columns(log, monkeypatch):
    write_version_1(monkeypatch, log, 1, make_rows((0,)))
    (row,) = make_tail(log).read().rows
    assert row["failed_checks"] is None
    compact(log, QuickFiles())
    (row,) = make_tail(log).read().rows
    assert row["failed_checks"] is None


def test_compaction_of_what_was_read_changes_nothing(log):
    write_epoch(log, 1, make_rows(range(3)))
    tail = make_tail(log)
    assert ids(tail.read()) == named(0, 1, 2)
    compact(log, QuickFiles())
    write_epoch(log, 7, make_rows((8,)))
    found = tail.read()
    assert (ids(found), found.restarted) == (named(8), False)


def test_if_compaction_took_rows_that_were_not_read_the_tail_begins_again(log):
    tail = make_tail(log)
    tail.read()
    write_epoch(log, 1, make_rows(range(3)))
    compact(log, QuickFiles())
    found = tail.read()
    assert (ids(found), found.restarted) == (named(0, 1, 2), True)
    for epoch in (7, 8):
        write_epoch(log, epoch, make_rows((epoch,)))
        compact(log, QuickFiles())
    found = tail.read()
    assert (ids(found), found.restarted) == (named(0, 1, 2, 7, 8), True)
    assert tail.read().rows == []


def test_a_segment_that_was_read_in_part_and_recovered_comes_again_whole(log):
    writer = LiveWriter(log)
    writer.write(make_row(0))
    tail = make_tail(log)
    assert ids(tail.read()) == named(0)
    writer.write(make_row(1))
    writer.close()
    recover(log, QuickFiles())
    found = tail.read()
    assert (ids(found), found.restarted) == (named(0, 1), False)


def test_an_archive_that_is_replaced_while_it_is_read_is_read_again(log, monkeypatch):
    write_epoch(log, 1, make_rows(range(3)))
    compact(log, QuickFiles())
    real, calls = log_tail.open_parquet, []

    def once_gone(path):
        calls.append(path)
        if len(calls) == 1:
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr(log_tail, "open_parquet", once_gone)
    found = make_tail(log).read()
    assert (ids(found), found.restarted) == (named(0, 1, 2), True)


def test_row_groups_before_the_beginning_are_not_read(log, monkeypatch):
    write_epoch(log, 1, make_rows(range(3)))
    compact(log, QuickFiles())
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda *_, **__: pytest.fail("was read"))
    assert make_tail(log, T0 + 3).read().rows == []


def test_a_damaged_archive_is_an_error_and_read_once_it_is_mended(log, live):
    write_epoch(log, 1, make_rows(range(2)))
    compact(log, QuickFiles())
    path = archive_manifest_path(log)
    good = path.read_bytes()
    path.write_bytes(b"{}")
    tail = make_tail(log)
    with pytest.raises(InternalError):
        tail.read()
    path.write_bytes(good)
    live.write(make_row(5))
    assert ids(tail.read()) == named(0, 1, 5)
