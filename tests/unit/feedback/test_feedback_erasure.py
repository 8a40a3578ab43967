import pytest
from archive_support import all_rows, archived_rows, files_with, generation, tombstone, visible_rows, write_epoch
from feedback_support import QuickFiles, make_row, make_rows

from deployments.feedback.archive import read_archive_manifest, verify_archive
from deployments.feedback.compaction import compact
from deployments.feedback.directory import QUARANTINE, recover

SECRET = "what nobody may read any more"


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def ids(*numbers):
    return [f"event-{number:05d}" for number in numbers]


def rows_by_id(*rows):
    return {row["event_id"]: row for row in rows}


def quick(log, **limits):
    return compact(log, QuickFiles(), **limits)


@pytest.mark.parametrize("when", ["before", "with", "after", "long before"])
def test_a_tombstone_erases_a_row_whenever_it_comes_and_is_kept(log, when):
    row, erasure = make_row(1, text=SECRET), tombstone("event-00001")
    first, second = (erasure, row) if "before" in when else (row, erasure)
    write_epoch(log, 1, [first, make_row(2)])
    if when in ("after", "long before"):
        quick(log)
    write_epoch(log, 2, [second])
    report = quick(log)
    assert (report.erased, report.erased_archived) == (1, when == "after")
    assert files_with(log, SECRET) == []
    assert archived_rows(log) == [erasure, make_row(2)]
    assert verify_archive(log) == ()


@pytest.mark.parametrize("archived", [False, True])
def test_the_tombstone_of_a_generation_erases_all_that_is_about_it(log, archived):
    about = [
        generation(1, prompt=[{"role": "user", "content": SECRET}]),
        make_row(1, text=SECRET),
        make_row(2, other_generation_id="generation-1", text=SECRET, kind="preference"),
        make_row(3, generation_id="generation-1", kind="validator"),
    ]
    others = [generation(4), make_row(4)]
    write_epoch(log, 1, about + others)
    if archived:
        quick(log)
    write_epoch(log, 2, [tombstone("generation-1", of_generation=True, generation_id="generation-1")])
    report = quick(log)
    assert report.erased == 4
    assert report.erased_archived == 4 * archived
    assert files_with(log, SECRET) == []
    assert visible_rows(log) == rows_by_id(*others)
    assert "erase-generation-1" in all_rows(log)


def test_a_tombstone_of_an_event_does_not_erase_what_is_about_a_generation_of_that_id(log):
    write_epoch(log, 1, [generation(1), make_row(1), tombstone("generation-1")])
    quick(log)
    assert visible_rows(log) == rows_by_id(make_row(1))


def test_a_late_retry_of_an_erased_row_does_not_come_back(log):
    write_epoch(log, 1, [generation(1), make_row(1, text=SECRET), make_row(2), tombstone("event-00001")])
    write_epoch(log, 2, [tombstone("generation-1", of_generation=True)])
    quick(log)
    for epoch in (3, 4):
        write_epoch(log, epoch, [make_row(1, text=SECRET), generation(1), make_row(9, generation_id="generation-1")])
        assert visible_rows(log) == rows_by_id(make_row(2))
        assert quick(log).erased == 3
        assert visible_rows(log) == rows_by_id(make_row(2))
        assert files_with(log, SECRET) == []


def test_a_tombstone_in_a_later_chunk_reaches_the_file_of_an_earlier_one(log):
    write_epoch(log, 1, [make_row(1, text=SECRET), make_row(2)])
    write_epoch(log, 2, make_rows([3, 4]))
    write_epoch(log, 3, [tombstone("event-00001")])
    report = quick(log, max_file_rows=2)
    assert (report.erased, report.erased_archived) == (1, 1)
    assert files_with(log, SECRET) == []
    assert visible_rows(log) == rows_by_id(*make_rows([2, 3, 4]))


def test_only_files_with_erased_rows_are_written_anew_and_one_without_rows_left_goes(log):
    for epoch in (1, 2, 3):
        write_epoch(log, epoch, [make_row(epoch)])
        quick(log)
    before = [file.name for file in read_archive_manifest(log).files]
    write_epoch(log, 4, [tombstone("event-00002")])
    quick(log)
    names = [file.name for file in read_archive_manifest(log).files]
    assert set(before) - set(names) == {"events-2-0.parquet"}
    assert len(names) == 3
    assert sorted(path.name for path in (log / "archive").glob("*.parquet")) == sorted(names)


def test_an_erased_row_is_not_left_in_what_recovery_or_a_merge_has_put_away(log):
    write_epoch(log, 1, [make_row(1, text=SECRET)], seal=False)
    for epoch in range(2, 11):
        write_epoch(log, epoch, make_rows([epoch]))
        quick(log)
    write_epoch(log, 11, [make_row(11, text=SECRET)], seal=False)
    torn = write_epoch(log, 12, [make_row(12, text=SECRET)], seal=False)
    torn.write_bytes(torn.read_bytes()[:-9])  # never acknowledged, but the text is there
    recover(log, QuickFiles())
    assert len(list((log / QUARANTINE).iterdir())) == 2
    write_epoch(log, 13, [tombstone("event-00001"), tombstone("event-00011")])
    quick(log)
    assert files_with(log, SECRET) == []
