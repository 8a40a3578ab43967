import itertools
from pathlib import Path

import pytest
from feedback_support import Crash, Disk, QuickFiles, RecordingFiles, make_row, make_rows, write_state

from benchmarks.durability.power import MUTANTS, power
from benchmarks.durability.recording import crash_at
from deployments.feedback.directory import read_log, recover
from deployments.feedback.writer import LogWriter

LONG_S = 30
STATES = 200
KILLED_THREADS = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
"""A writer is killed by what its thread cannot catch."""
ROOT = Path("/disk")
DATA = bytes(range(1, 256)) * 40


def states_after(*operations, most=10_000):
    disk = Disk(ROOT)
    for operation in operations:
        disk.apply(operation)
    return list(disk.states(most))


def contents(states, name="a"):
    return {state[Path(name)] for state in states if Path(name) in state}


WRITTEN = (("create", ROOT / "a", 0), ("sync_dir", ROOT), ("write", 0, DATA))


def test_unsynced_bytes_are_dropped_torn_zeroed_or_have_holes_at_each_sector():
    seen = contents(states_after(*WRITTEN))
    assert {b"", DATA, bytes(len(DATA)), DATA[:512], DATA[:4096], DATA[:9728]} <= seen
    assert bytes(512) + DATA[512:] in seen
    assert DATA[:4096] + bytes(4096) + DATA[8192:] in seen
    assert DATA[:1024] + bytes(len(DATA) - 1024) in seen
    assert len(seen) > 4 * (len(DATA) // 512)


def test_synced_bytes_are_there_in_every_state():
    assert contents(states_after(*WRITTEN, ("sync", 0))) == {DATA}
    more = contents(states_after(*WRITTEN, ("sync", 0), ("write", 0, DATA)))
    assert all(content.startswith(DATA) for content in more)


def test_an_entry_may_be_missing_until_its_own_directory_is_synced():
    made = (("mkdir", ROOT / "d"), ("create", ROOT / "d/a", 0), ("sync", 0))
    assert {frozenset(map(str, state)) for state in states_after(*made, ("sync_dir", ROOT / "d"))} == {
        frozenset(),
        frozenset({"d", "d/a"}),
    }
    both = (*made, ("sync_dir", ROOT / "d"), ("sync_dir", ROOT))
    assert all(Path("d/a") in state for state in states_after(*both))


def test_changes_of_one_directory_reach_the_device_in_any_combination_and_a_rename_as_one():
    renamed = (
        *WRITTEN,
        ("sync", 0),
        ("create", ROOT / "b", 1),
        ("rename", ROOT / "a", ROOT / "c"),
    )
    names = {frozenset(map(str, state)) for state in states_after(*renamed)}
    assert names == {frozenset("a"), frozenset("ab"), frozenset("c"), frozenset("bc")}


def test_a_rename_between_directories_may_lose_the_file_or_leave_it_twice():
    moved = (
        ("mkdir", ROOT / "d"),
        ("sync_dir", ROOT),
        *WRITTEN,
        ("sync", 0),
        ("rename", ROOT / "a", ROOT / "d/a"),
    )
    names = {frozenset(map(str, state)) - {"d"} for state in states_after(*moved)}
    assert names == {frozenset(), frozenset({"a"}), frozenset({"d/a"}), frozenset({"a", "d/a"})}


def test_no_more_states_are_made_than_were_asked_for_and_the_corners_always():
    assert len(states_after(*WRITTEN, most=5)) == 4 + 5


@pytest.mark.exhaustive
@KILLED_THREADS
def test_power_cuts_lose_nothing_and_logs_that_forget_a_sync_are_caught(tmp_path):
    outcome = power(STATES, seed=3, scratch=tmp_path, processes=1, mutant_states=30)
    assert outcome.broken == ()
    rows = {(row["log"], row["history"]): row for row in outcome.rows}
    assert rows["as it is", "all"]["distinct"] == STATES
    assert all(row["distinct"] > 0 for row in outcome.rows)
    for log in MUTANTS.values():
        assert rows[log, "all"]["lost"] + rows[log, "all"]["refused"] > 0


def acked_after_cuts(disk_root, history, tmp_path):
    """For each state after the last operation: which rows are there once a writer has started on it."""
    disk = Disk(disk_root)
    for operation in history:
        disk.apply(operation)
    for number, state in enumerate(disk.states(200)):
        directory = tmp_path / f"cut-{number}"
        write_state(directory, state)
        recover(directory / "log", QuickFiles())
        yield {row["event_id"] for row in read_log(directory / "log")}


def test_a_writer_makes_sure_of_the_root_that_a_killed_one_has_made(tmp_path):
    disk_root = tmp_path / "disk"
    disk_root.mkdir()
    files = RecordingFiles()
    files.fail = lambda operation: Crash() if operation == ("sync_dir", disk_root) else None
    with pytest.raises(Crash):
        LogWriter(disk_root / "log", files=files)
    assert files.log[-1] == ("mkdir", disk_root / "log")
    files.fail = lambda operation: None
    writer = LogWriter(disk_root / "log", files=files)
    writer.submit(make_row(1)).result(LONG_S)
    history = list(files.log)
    writer.close()
    assert all(ids == {"event-00001"} for ids in acked_after_cuts(disk_root, history, tmp_path))


def test_a_repeat_is_not_acknowledged_by_a_row_that_another_live_writer_has_not_synced(tmp_path):
    files = RecordingFiles()
    log = tmp_path / "log"
    answers = []

    def start_another(operation):
        # The first sync of a segment is its head's.
        if operation[0] == "sync" and sum(done[0] == "write" for done in files.log) == 2:
            files.fail = lambda operation: None
            other = LogWriter(log, files=QuickFiles())
            answers.append(other.submit(make_row(1)).result(LONG_S))
            other.close()

    files.fail = start_another
    writer = LogWriter(log, files=files)
    writer.submit(make_row(1)).result(LONG_S)
    writer.close()
    assert [answer.duplicate for answer in answers] == [False]
    assert [row["event_id"] for row in read_log(log)] == ["event-00001"]


@KILLED_THREADS
def test_what_a_recovery_has_copied_stays_although_a_power_cut_takes_it_from_the_original(tmp_path):
    # A writer dies in a commit; the batch is in the page cache only, and the next start copies it.
    disk_root = tmp_path / "disk"
    disk_root.mkdir()
    log = disk_root / "log"
    files = RecordingFiles()
    dying = LogWriter(log, files=files)
    dying.submit(make_row(1)).result(LONG_S)
    files.fail = crash_at(0, "sync")
    dying.submit(make_row(2)).exception(LONG_S)
    dying.close()
    # The start is killed once the original is on its way to quarantine, before that is durable.
    files.fail = lambda operation: (
        Crash() if files.log[-1][0] == "rename" and "quarantine" in str(files.log[-1]) else None
    )
    with pytest.raises(Crash):
        LogWriter(log, files=files)
    files.fail = lambda operation: None
    writer = LogWriter(log, files=files)
    assert writer.submit(make_row(2)).result(LONG_S).duplicate
    history = list(files.log)
    writer.close()
    expected = {row["event_id"] for row in make_rows([1, 2])}
    assert all(ids == expected for ids in itertools.islice(acked_after_cuts(disk_root, history, tmp_path), 300))
