import errno
import json
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archive_support import (
    VERSION_1_COLUMNS,
    LiveWriter,
    all_rows,
    archived_rows,
    tombstone,
    version_1,
    write_epoch,
    write_newer,
    write_version_1,
)
from feedback_support import Crash, QuickFiles, RecordingFiles, failing, make_row, make_rows

from deployments.feedback import compaction
from deployments.feedback import directory as directory_module
from deployments.feedback.archive import (
    ArchiveManifest,
    read_archive_manifest,
    verify_archive,
    write_archive_manifest,
    write_parquet,
)
from deployments.feedback.compaction import CompactionReport, compact, main
from deployments.feedback.directory import (
    QUARANTINE,
    claim_epoch,
    list_segments,
    read_segments,
    recover,
    remove_ended_epochs,
)
from deployments.feedback.files import try_lock
from deployments.feedback.schema import ARROW_SCHEMA, SCHEMA_VERSION, is_intact
from deployments.feedback.segment_writer import RotationLimits
from deployments.feedback.snapshot import open_snapshot
from deployments.feedback.writer import LogWriter
from graph.errors import InternalError

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


def test_sealed_segments_become_one_file_sorted_by_event_id(log):
    write_epoch(log, 1, make_rows([5, 3]), make_rows([9]))
    write_epoch(log, 2, make_rows([4, 1]))
    report = quick(log)
    assert (report.segments, report.rows_in, report.rows_written, report.version) == (2, 5, 5, 1)
    assert archived_rows(log) == make_rows([1, 3, 4, 5, 9])
    assert all(map(is_intact, archived_rows(log)))
    assert list_segments(log) == []
    assert not list(log.rglob("*.manifest.json"))
    assert verify_archive(log) == ()


def test_a_log_without_sealed_segments_gets_no_new_version_and_no_file(log):
    assert quick(log) == CompactionReport()
    assert not log.exists()
    log.mkdir()
    assert quick(log).version == 0
    write_epoch(log, 1, make_rows([1]))
    assert quick(log).version == 1
    before = {path: path.read_bytes() for path in log.rglob("*") if path.is_file()}
    report = quick(log)
    assert (report.segments, report.rows_in, report.files, report.rows, report.version) == (0, 0, 1, 1, 1)
    assert {path: path.read_bytes() for path in log.rglob("*") if path.is_file()} == before


def test_the_open_segment_of_a_live_writer_is_left_alone(log):
    writer = LiveWriter(log)
    writer.write(*make_rows([1]))
    writer.seal()
    writer.write(*make_rows([2]))
    assert quick(log).segments == 1
    writer.write(*make_rows([3]))
    assert open_snapshot(log).tail.to_pylist() == make_rows([2, 3])
    writer.close()
    assert all_rows(log) == rows_by_id(*make_rows([1, 2, 3]))


def test_what_a_dead_writer_left_unsealed_is_taken_too(log):
    write_epoch(log, 1, make_rows([1, 2]), seal=False)
    report = quick(log)
    assert (report.segments, report.rows_written) == (1, 2)
    assert archived_rows(log) == make_rows([1, 2])
    assert list((log / QUARANTINE).iterdir()) == []


def test_of_rows_with_equal_event_ids_the_first_written_stays_across_runs(log):
    write_epoch(log, 1, [make_row(1, text="first"), make_row(1, text="again")])
    write_epoch(log, 2, [make_row(1, text="later"), make_row(2, text="first")])
    report = quick(log)
    assert (report.rows_in, report.rows_written, report.duplicates) == (4, 2, 2)
    write_epoch(log, 3, [make_row(2, text="much later"), make_row(3, text="first"), make_row(3, text="again")])
    report = quick(log)
    assert (report.rows_in, report.rows_written, report.duplicates) == (3, 1, 2)
    assert {row["event_id"]: row["text"] for row in archived_rows(log)} == dict.fromkeys(ids(1, 2, 3), "first")


def test_segments_of_duplicates_only_are_absorbed_and_make_no_file(log):
    write_epoch(log, 1, make_rows([1]))
    quick(log)
    write_epoch(log, 2, make_rows([1]))
    report = quick(log)
    assert (report.segments, report.duplicates, report.files, report.version) == (1, 1, 1, 2)
    assert list_segments(log) == []


def test_files_hold_no_more_rows_than_allowed_and_each_chunk_is_committed_by_itself(log):
    for epoch in range(1, 11):
        write_epoch(log, epoch, make_rows(range(epoch * 10, epoch * 10 + 10)))
    report = quick(log, max_file_rows=35)
    assert [file.rows for file in read_archive_manifest(log).files] == [30, 30, 30, 10]
    assert report.version == 4
    assert all_rows(log) == rows_by_id(*make_rows(range(10, 110)))


def test_a_segment_larger_than_a_file_becomes_several(log):
    write_epoch(log, 1, make_rows(range(25)))
    quick(log, max_file_rows=10)
    assert [file.rows for file in read_archive_manifest(log).files] == [10, 10, 5]


def test_chunks_are_bounded_in_bytes_too(log, monkeypatch):
    for epoch in range(1, 7):
        write_epoch(log, epoch, [make_row(epoch, text="x" * 50_000)])
    held = []
    absorb = compaction._Compaction._absorb
    monkeypatch.setattr(
        compaction._Compaction, "_absorb", lambda self, chunk: (held.append(len(chunk)), absorb(self, chunk))
    )
    quick(log, max_file_bytes=130_000)
    assert held == [2, 2, 2]


@pytest.mark.parametrize("limits", [{"max_file_rows": 0}, {"max_file_bytes": 0}, {"max_file_bytes": 2 << 30}])
def test_limits_that_make_no_sense_are_refused(log, limits):
    with pytest.raises(ValueError, match="out of range"):
        quick(log, **limits)


def test_many_small_files_are_merged_and_stay_for_readers_until_the_next_run(log):
    for epoch in range(1, 10):
        write_epoch(log, epoch, make_rows(range(epoch, 1000, 100)))
        snapshot = open_snapshot(log)
        report = quick(log)
    assert report.merged_files == 9
    assert (report.files, report.rows) == (1, 90)
    assert [row["event_id"] for row in archived_rows(log)] == sorted(all_rows(log))
    assert len(all_rows(log)) == 90
    # A snapshot taken before that run can still be read; the files go with the next.
    assert sum(pq.ParquetFile(path).metadata.num_rows for path in snapshot.parquet) == 80
    quick(log)
    assert [path.name for path in (log / "archive").glob("*.parquet")] == [read_archive_manifest(log).files[0].name]


def test_files_are_merged_within_the_limits_and_large_ones_are_left(log):
    write_epoch(log, 1, make_rows(range(1000, 1040)))
    quick(log, max_file_rows=40)
    for epoch in range(2, 11):
        write_epoch(log, epoch, make_rows(range(epoch * 8, epoch * 8 + 8)))
        quick(log, max_file_rows=40)
    files = read_archive_manifest(log).files
    assert all(file.rows <= 40 for file in files)
    assert sorted(file.rows for file in files) == [32, 40, 40]
    assert len(all_rows(log)) == 112


def test_files_with_long_texts_are_not_small(log):
    for epoch in range(1, 12):
        # Nothing that zstd or a dictionary could make small.
        write_epoch(log, epoch, [make_row(epoch, text="".join(chr(0x4E00 + n * epoch % 20_000) for n in range(2000)))])
        report = quick(log, max_file_bytes=30_000)
    assert report.files == 11


def test_a_corrupt_sealed_segment_stays_readable_and_is_reported_every_time(log):
    path = write_epoch(log, 1, make_rows([1]), make_rows([2]))
    path.write_bytes(path.read_bytes()[:-40] + b"\xaa" * 40)
    write_epoch(log, 2, make_rows([3]))
    for _ in range(2):
        report = quick(log)
        assert path.exists()
        assert "corrupt" in report.problems[0]
        assert path.name in report.problems[0]
        assert all_rows(log) == rows_by_id(*make_rows([1, 3]))


def test_a_segment_of_a_newer_table_stays_as_it_is_and_asks_for_an_upgrade(log, monkeypatch):
    path = write_newer(monkeypatch, log, 1, make_rows([1]))
    whole = path.read_bytes()
    report = quick(log)
    assert (report.segments, report.version) == (0, 0)
    assert "Upgrade" in report.problems[0]
    assert path.read_bytes() == whole


def test_rows_of_version_1_stay_intact_through_compaction_erasure_and_merging(log, monkeypatch):
    write_version_1(monkeypatch, log, 1, make_rows([1, 2, 3]))
    quick(log)
    write_epoch(log, 2, [tombstone("event-00002"), make_row(4, quality_score=0.5)])
    quick(log)
    merged = 0
    for epoch in range(3, 11):
        write_version_1(monkeypatch, log, epoch, make_rows([epoch + 10]))
        merged += quick(log).merged_files
    assert merged == 9
    rows = {row["event_id"]: row for row in archived_rows(log)}
    assert all(is_intact(row) for row in rows.values())
    assert [rows[event_id]["schema_version"] for event_id in ids(1, 3, 4)] == [1, 1, SCHEMA_VERSION]
    assert rows["event-00001"]["quality_score"] is None


def test_files_of_an_older_archive_are_merged_under_the_schema_of_today(log, monkeypatch):
    columns = [ARROW_SCHEMA.field(name) for name in VERSION_1_COLUMNS]
    old = pa.Table.from_pylist([version_1(row) for row in make_rows([1, 2])], schema=pa.schema(columns))
    (log / "archive").mkdir(parents=True)
    file = write_parquet(log, "events-1-0.parquet", old, QuickFiles())
    write_archive_manifest(log, ArchiveManifest(1, (file,), ()), QuickFiles())
    write_epoch(log, 1, make_rows([2, 3]))
    monkeypatch.setattr(compaction, "MAX_SMALL_FILES", 1)
    assert quick(log).merged_files == 2
    (path,) = open_snapshot(log).parquet
    assert pq.read_schema(path).equals(ARROW_SCHEMA)
    assert [row["schema_version"] for row in archived_rows(log)] == [1, 1, SCHEMA_VERSION]
    assert all(map(is_intact, archived_rows(log)))


def test_a_corrupt_original_stays_in_quarantine_and_is_reported(log):
    path = write_epoch(log, 1, make_rows([1]), make_rows([2]), make_rows([3]), seal=False)
    data = bytearray(path.read_bytes())
    data[data.index(b"event-00002")] ^= 1
    path.write_bytes(data)
    for _ in range(2):
        report = quick(log)
        (kept,) = (log / QUARANTINE).iterdir()
        assert kept.read_bytes() == data
        assert kept.name in report.problems[0]
    assert all_rows(log) == rows_by_id(make_row(1))


def test_a_damaged_archive_is_never_written_anew(log):
    write_epoch(log, 1, make_rows(range(50)))
    quick(log)
    (path,) = (log / "archive").glob("*.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:])
    write_epoch(log, 2, [tombstone("event-00001")])
    with pytest.raises(InternalError, match="damaged"):
        quick(log)
    assert len(list_segments(log)) == 1
    path.write_bytes(whole)
    assert quick(log).erased == 1


def test_directories_of_ended_writers_go_but_the_largest_epoch_stays(log):
    for _ in range(3):
        writer = LogWriter(log, files=QuickFiles())
        writer.submit(make_row(writer._claim.epoch)).result(30)
        writer.close()
    live = LiveWriter(log)
    idle = LogWriter(log, files=QuickFiles())
    idle.close()
    quick(log)
    assert [path.name for path in sorted(log.glob("writer=*/epoch=*"))] in (
        ["epoch=4", "epoch=5"],
        ["epoch=5", "epoch=4"],
    )
    assert len(list(log.glob("writer=*"))) == 2
    live.close()


def test_a_writer_of_the_same_name_never_writes_a_segment_that_counts_as_absorbed(log):
    for number in range(4):
        writer = LogWriter(log, files=QuickFiles(), writer_id="always")
        writer.submit(make_row(number)).result(30)
        writer.close()
        crash_after_the_commit(log)
        assert len(all_rows(log)) == number + 1
    quick(log)
    assert all_rows(log) == rows_by_id(*make_rows(range(4)))


def test_what_a_crash_left_half_written_does_not_keep_a_directory(log):
    path = write_epoch(log, 1, make_rows([1]), seal=False)
    path.with_name("seg-000000.manifest.json.tmp").write_text("{")
    write_epoch(log, 2, make_rows([2]))
    quick(log)
    assert not path.parent.exists()


def test_a_directory_that_is_looked_into_or_refilled_is_not_removed(log):
    write_epoch(log, 1, make_rows([1]))
    write_epoch(log, 9, make_rows([9]))
    first = log / "writer=w" / "epoch=1"
    lock = try_lock(first / "writer.lock")
    quick(log)
    assert first.is_dir()
    lock.close()
    (first / "notes.txt").write_text("of a person")
    remove_ended_epochs(log)
    assert {path.name for path in first.iterdir()} == {"notes.txt", "writer.lock"}
    (first / "notes.txt").unlink()
    assert recover(log, QuickFiles()).segments == ()
    remove_ended_epochs(log)
    assert not first.exists()


@pytest.mark.parametrize("vanishes", ["before mkdir", "before its sync", "before the lock"])
def test_a_claim_survives_that_its_directories_vanish_while_it_is_made(log, vanishes):
    """As a compaction may do that finds them empty, once another writer has claimed a larger epoch."""
    left = [1]

    class Vanishing(QuickFiles):
        def mkdir(self, path):
            if vanishes == "before mkdir" and path.name.startswith("epoch=") and left[0]:
                left[0] = 0
                path.parent.rmdir()
            super().mkdir(path)

        def fsync_dir(self, path):
            if path.name == "writer=w" and any(path.iterdir()) and left[0]:
                left[0] = 0
                (path / "epoch=1").rmdir()
                if vanishes == "before its sync":
                    path.rmdir()
                    raise FileNotFoundError(path)

    claim = claim_epoch(log, "w", Vanishing())
    assert left == [0]
    assert (log / "writer=w" / f"epoch={claim.epoch}" / "writer.lock").exists()
    assert try_lock(log / "writer=w" / f"epoch={claim.epoch}" / "writer.lock") is None
    claim.close()


def test_a_claim_never_takes_a_lock_whose_directory_has_just_been_removed(log, monkeypatch):
    def lock_then_remove(path):
        lock = try_lock(path)
        if path.parent.name == "epoch=1":
            path.unlink()
            path.parent.rmdir()
        return lock

    monkeypatch.setattr(directory_module, "try_lock", lock_then_remove)
    claim = claim_epoch(log, "w", QuickFiles())
    assert claim.epoch == 2
    claim.close()


def test_readers_of_segments_pass_over_what_was_compacted_since_it_was_listed(log):
    for epoch in (1, 2, 3):
        write_epoch(log, epoch, make_rows([epoch]))
    reading = read_segments(log)
    next(reading)
    quick(log)
    assert list(reading) == []


def crash_after_the_commit(log):
    files = RecordingFiles(fail=lambda operation: Crash() if operation[0] == "unlink" else None)
    with pytest.raises(Crash):
        compact(log, files)


def test_of_two_compactions_at_once_one_does_the_work_and_the_other_says_so(log):
    write_epoch(log, 1, make_rows([1]))
    seen = []

    def compact_too(operation):
        if operation[0] in ("create", "rename", "unlink"):
            seen.append(quick(log))

    assert not compact(log, RecordingFiles(fail=compact_too)).busy
    assert len(seen) >= 6
    assert all(other == CompactionReport(busy=True) for other in seen)
    assert all_rows(log) == rows_by_id(make_row(1))


def test_readers_and_writers_go_on_while_it_compacts(log):
    acked, done = [], threading.Event()
    limits = RotationLimits(max_rows=25)

    def write(name):
        writer = LogWriter(log, files=QuickFiles(), limits=limits, writer_id=name)
        for number in range(200):
            # Every other row is written by both.
            event_id = f"{name if number % 2 else 'both'}-{number}"
            writer.submit(make_row(number, event_id=event_id)).result(30)
            acked.append(event_id)
        writer.close()

    def keep_compacting():
        while not done.is_set():
            quick(log, max_file_rows=60)

    threads = [threading.Thread(target=write, args=(name,)) for name in ("a", "b")]
    compactor = threading.Thread(target=keep_compacting)
    for thread in (*threads, compactor):
        thread.start()
    readings = 0
    try:
        while any(thread.is_alive() for thread in threads):
            before = set(acked)
            try:
                rows = all_rows(log)
            except FileNotFoundError:
                continue  # a Parquet file was replaced twice since the snapshot: take a new one
            assert before <= set(rows)
            readings += 1
    finally:
        for thread in threads:
            thread.join()
        done.set()
        compactor.join()
    assert readings
    assert set(all_rows(log)) == set(acked)


def test_the_command_prints_a_table_and_problems(log, capsys):
    path = write_epoch(log, 1, make_rows([1]))
    write_epoch(log, 2, make_rows([2, 3]))
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["--log", str(log)]) == 0
    out = capsys.readouterr().out
    assert "rows written" in out
    assert "is corrupt" in out


def test_the_command_writes_the_report_as_json(log, tmp_path, capsys):
    write_epoch(log, 1, make_rows([1]))
    assert main(["--log", str(log), "--json", str(tmp_path / "out.json")]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["rows_written"] == 1
    capsys.readouterr()
    assert main(["--log", str(log), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["segments"] == 0


def test_the_command_says_when_another_one_is_at_work(log, capsys):
    write_epoch(log, 1, make_rows([1]))
    quick(log)
    lock = try_lock(log / "archive" / compaction.LOCK)
    assert main(["--log", str(log)]) == 3
    assert "at work" in capsys.readouterr().out
    lock.close()


def test_the_command_tells_a_failing_disk_and_a_damaged_archive_in_words(log, capsys, monkeypatch):
    write_epoch(log, 1, make_rows([1]))
    full = RecordingFiles(fail=failing("write", errno.ENOSPC))
    with monkeypatch.context() as patch:
        patch.setattr(compaction, "LocalFiles", lambda: full)
        assert main(["--log", str(log)]) == 1
    assert "No space left" in capsys.readouterr().err
    (log / "archive" / "manifest.json").write_text("{}")
    assert main(["--log", str(log)]) == 1
    assert "cannot be trusted" in capsys.readouterr().err
