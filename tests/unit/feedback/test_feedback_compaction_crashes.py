import errno
import itertools
import shutil
from contextlib import suppress

import pytest
from archive_support import LiveWriter, generation, tombstone, visible_rows, write_epoch
from feedback_support import Crash, Disk, QuickFiles, RecordingFiles, failing, make_row, make_rows, write_state
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.feedback import compaction
from deployments.feedback.archive import read_archive_manifest, verify_archive
from deployments.feedback.compaction import compact
from deployments.feedback.directory import QUARANTINE, list_segments

pytestmark = pytest.mark.exhaustive


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def ids(*numbers):
    return [f"event-{number:05d}" for number in numbers]


def rows_by_id(*rows):
    return {row["event_id"]: row for row in rows}


def quick(log, **limits):
    return compact(log, QuickFiles(), **limits)


@pytest.fixture
def troubled(log, monkeypatch):
    """A log with rows in the archive and not, duplicates, tombstones for both, a dead writer's torn segment, and
    files to merge; what readers see of it."""
    monkeypatch.setattr(compaction, "MAX_SMALL_FILES", 2)
    write_epoch(log, 1, [*make_rows([0, 1, 2]), generation(1)])
    for epoch in (2, 3):
        write_epoch(log, epoch, [make_row(epoch + 10)])
        quick(log)
    write_epoch(log, 9, make_rows([3, 4]), [make_row(0), tombstone("event-00003")])
    write_epoch(log, 10, [tombstone("event-00002"), tombstone("generation-1", of_generation=True)])
    path = write_epoch(log, 11, make_rows([5]), [make_row(6), make_row(4)], seal=False)
    path.write_bytes(path.read_bytes() + b"torn")
    write_epoch(log, 12, make_rows([7]))
    expected = visible_rows(log)
    assert sorted(expected) == ids(0, 4, 5, 6, 7, 12, 13)
    return expected


def crash_at(step):
    left = [step]

    def fail(operation):
        left[0] -= 1
        return Crash() if left[0] < 0 else None

    return fail


def test_a_crash_at_any_step_loses_no_row_and_doubles_none(log, troubled, tmp_path):
    for step in itertools.count():
        directory = tmp_path / f"crash-{step}"
        shutil.copytree(log, directory)
        crashed = False
        try:
            compact(directory, RecordingFiles(fail=crash_at(step)), max_file_rows=50)
        except Crash:
            crashed = True
            assert visible_rows(directory) == troubled
            quick(directory, max_file_rows=50)
        assert visible_rows(directory) == troubled
        assert verify_archive(directory) == ()
        quick(directory)  # files that were merged stay until the next run
        current = {file.name for file in read_archive_manifest(directory).files}
        assert {path.name for path in (directory / "archive").iterdir()} == current | {
            "manifest.json",
            "compaction.lock",
        }
        assert list_segments(directory) == []
        assert list((directory / QUARANTINE).iterdir()) == []
        shutil.rmtree(directory)
        if not crashed:
            break
    assert step > 60


def fail_once(fail):
    failed = []

    def fail_first(operation):
        if not failed and (error := fail(operation)):
            failed.append(error)
            return error
        return None

    return fail_first


def check_every_cut(disk, history, directory, expected):
    """For each prefix of the history, in the states it may leave: all rows, before and after a compaction."""
    seen = set()
    for operation in history:
        disk.apply(operation)
        for state in disk.states(most=16):
            key = frozenset(state.items())
            if key not in seen:
                seen.add(key)
                write_state(directory, state)
                assert visible_rows(directory) == expected, operation
                quick(directory)
                assert visible_rows(directory) == expected, operation
                shutil.rmtree(directory)
    return len(seen)


def test_a_power_cut_at_any_step_loses_no_row_and_doubles_none(log, troubled, tmp_path):
    disk = Disk(log)
    disk.load(log)
    files = RecordingFiles()
    compact(log, files, max_file_rows=50)
    assert check_every_cut(disk, files.log, tmp_path / "cut", troubled) > 100


@pytest.mark.parametrize("error", [Crash(), OSError(errno.EIO, "EIO")])
def test_a_power_cut_after_a_crash_just_before_the_manifest_was_synced_loses_nothing(log, tmp_path, error):
    write_epoch(log, 1, make_rows([1, 2]))
    quick(log)
    write_epoch(log, 2, [tombstone("event-00001")], make_rows([3]))
    expected = visible_rows(log)
    disk = Disk(log)
    disk.load(log)

    def fail(operation):
        renamed = files.log and files.log[-1][0] == "rename" and files.log[-1][2].name == "manifest.json"
        return error if renamed and operation[0] == "sync_dir" else None

    files = RecordingFiles(fail=fail)
    with pytest.raises(type(error)):
        compact(log, files)
    files.fail = lambda operation: None
    compact(log, files)
    assert check_every_cut(disk, files.log, tmp_path / "cut", expected) > 30


@pytest.mark.parametrize("kind", ["create", "write", "sync", "rename", "unlink", "sync_dir"])
def test_a_disk_that_fails_at_any_step_leaves_a_valid_archive_and_no_half_written_file(log, troubled, tmp_path, kind):
    for passing in itertools.count():
        directory = tmp_path / f"full-{passing}"
        shutil.copytree(log, directory)
        files = RecordingFiles(fail=fail_once(failing(kind, errno.ENOSPC, passing)))
        try:
            compact(directory, files)
        except OSError:
            assert not list((directory / "archive").glob("events-*.tmp"))
            assert visible_rows(directory) == troubled
            quick(directory)
        else:
            break
        assert visible_rows(directory) == troubled
        shutil.rmtree(directory)
    assert passing > 2


def histories():
    number = st.integers(0, 5)
    return st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.lists(st.tuples(number, st.sampled_from("ab")), min_size=1, max_size=4)),
            st.tuples(st.just("generation"), number),
            st.tuples(st.just("erase event"), number),
            st.tuples(st.just("erase generation"), number),
            st.tuples(st.just("seal")),
            st.tuples(st.just("crash")),
            st.tuples(st.just("compact"), st.integers(1, 4)),
            st.tuples(st.just("crash in compaction"), st.integers(0, 60)),
        ),
        max_size=25,
    )


@settings(max_examples=60, deadline=None)
@given(histories())
def test_any_history_of_writes_duplicates_erasures_and_compactions_shows_the_same_rows(tmp_path_factory, history):
    log = tmp_path_factory.mktemp("history") / "log"
    writer = LiveWriter(log)
    first_written, erased_events, erased_generations = {}, set(), set()

    def write(*rows):
        writer.write(*rows)
        for row in rows:
            first_written.setdefault(row["event_id"], row)

    for step in history:
        match step:
            case ("write", written):
                write(*(make_row(number, text=text) for number, text in written))
            case ("generation", number):
                write(generation(number))
            case ("erase event", number):
                write(tombstone(f"event-{number:05d}"))
                erased_events.add(f"event-{number:05d}")
            case ("erase generation", number):
                write(tombstone(f"generation-{number}", of_generation=True))
                erased_generations.add(f"generation-{number}")
            case ("seal",):
                writer.seal()
            case ("crash",):
                writer.close()
                writer = LiveWriter(log)
            case ("compact", max_rows):
                quick(log, max_file_rows=max_rows)
            case ("crash in compaction", at):
                with suppress(Crash):
                    compact(log, RecordingFiles(fail=crash_at(at)), max_file_rows=3)
        expected = {
            event_id: row
            for event_id, row in first_written.items()
            if row["kind"] != "tombstone"
            and event_id not in erased_events
            and row["generation_id"] not in erased_generations
        }
        assert visible_rows(log) == expected, step
    writer.close()
    shutil.rmtree(log.parent)
