import itertools
import shutil

import pytest
from feedback_support import Crash, Disk, QuickFiles, RecordingFiles, make_row, make_rows, write_state

from deployments.feedback.directory import (
    QUARANTINE,
    claim_epoch,
    list_segments,
    read_log,
    read_segments,
    recover,
)
from deployments.feedback.schema import to_batch
from deployments.feedback.segment_format import manifest_path
from deployments.feedback.segment_writer import RotationLimits, SegmentWriter
from deployments.feedback.writer import LogWriter
from graph.errors import InternalError


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def write_epoch(log, epoch, *batches, seal=False, writer="w"):
    segments = SegmentWriter(log, writer, epoch, QuickFiles())
    for batch in batches:
        segments.append(to_batch(batch))
    if seal:
        segments.seal()
    segments.close()
    return segments.path


def ids_of(log):
    return [row["event_id"] for row in read_log(log)]


def ids(*numbers):
    return [f"event-{number:05d}" for number in numbers]


def test_rows_come_in_order_of_epoch_writer_and_sequence(log):
    write_epoch(log, 10, make_rows([4, 5]), writer="a")
    write_epoch(log, 2, make_rows([2]), make_rows([3]), writer="z", seal=True)
    write_epoch(log, 1, make_rows([1]), writer="m")
    assert ids_of(log) == ids(1, 2, 3, 4, 5)


def test_of_rows_with_equal_event_ids_the_first_is_read(log):
    write_epoch(log, 1, [make_row(1, text="first"), make_row(1, text="again")])
    write_epoch(log, 2, [make_row(1, text="later"), make_row(2)])
    assert [row["text"] for row in read_log(log)] == ["first", make_row(2)["text"]]


def test_a_log_that_does_not_exist_has_no_rows(log):
    assert ids_of(log) == []


def test_a_corrupt_sealed_segment_stops_the_reader_unless_it_is_told_of_it(log):
    path = write_epoch(log, 1, make_rows([1]), make_rows([2]), seal=True)
    write_epoch(log, 2, make_rows([3]))
    whole = path.read_bytes()
    path.write_bytes(whole[:-40] + b"\xaa" * 40)
    with pytest.raises(InternalError, match="corrupt"):
        list(read_log(log))
    told = []
    assert [row["event_id"] for row in read_log(log, on_problem=told.append)] == ids(1, 3)
    assert [readout.path for readout in told] == [path]


def test_recovery_seals_the_whole_batches_and_keeps_the_original(log):
    path = write_epoch(log, 1, make_rows([1, 2]), make_rows([3]))
    good = path.read_bytes()
    path.write_bytes(good + b"torn")
    report = recover(log, QuickFiles())
    assert [(s.rows, s.dropped_bytes, s.corrupt) for s in report.segments] == [(3, 4, False)]
    (readout,) = read_segments(log)
    assert (readout.sealed, readout.clean, readout.rows) == (True, True, 3)
    assert readout.path.name == "seg-000000.recovered.arrows"
    (kept,) = (log / QUARANTINE).iterdir()
    assert kept.read_bytes() == good + b"torn"


def test_a_second_recovery_finds_nothing(log):
    write_epoch(log, 1, make_rows([1]))
    write_epoch(log, 2, make_rows([2]), seal=True)
    assert recover(log, QuickFiles()).rows == 1
    before = sorted(log.rglob("*"))
    assert recover(log, QuickFiles()).segments == ()
    assert sorted(log.rglob("*")) == before
    assert ids_of(log) == ids(1, 2)


def test_recovery_reports_acknowledged_rows_that_damage_cost(log):
    path = write_epoch(log, 1, make_rows([1]), make_rows([2]), make_rows([3]))
    data = bytearray(path.read_bytes())
    data[data.index(b"event-00002")] ^= 1
    path.write_bytes(data)
    (segment,) = recover(log, QuickFiles()).segments
    assert (segment.rows, segment.corrupt) == (1, True)


def test_a_segment_without_a_whole_batch_is_only_put_away(log):
    path = write_epoch(log, 1, make_rows([1]))
    path.write_bytes(path.read_bytes()[:20])
    assert recover(log, QuickFiles()).rows == 0
    assert list_segments(log) == []
    assert len(list((log / QUARANTINE).iterdir())) == 1


def test_recovery_leaves_live_writers_alone_and_takes_them_when_they_end(log):
    claim = claim_epoch(log, "live", QuickFiles())
    segments = SegmentWriter(log, "live", claim.epoch, QuickFiles())
    segments.append(to_batch(make_rows([1])))
    assert recover(log, QuickFiles()).segments == ()
    assert ids_of(log) == ids(1)
    claim.close()
    assert recover(log, QuickFiles()).rows == 1


def test_claims_are_never_shared_and_later_ones_are_larger(log):
    claims = [claim_epoch(log, writer, QuickFiles()) for writer in ("a", "b", "a", None)]
    assert [claim.epoch for claim in claims] == [1, 2, 3, 4]
    assert claims[0].writer_id != claims[3].writer_id


def test_a_segment_recovered_while_it_is_read_is_read_all_the_same(log):
    write_epoch(log, 1, make_rows([1]))
    write_epoch(log, 2, make_rows([2]))
    reading = read_log(log)
    first = next(reading)
    recover(log, QuickFiles())
    assert [first["event_id"], *(row["event_id"] for row in reading)] == ids(1, 2)


def test_a_crash_at_any_step_of_recovery_loses_nothing(log, tmp_path):
    write_epoch(log, 1, make_rows([1, 2]))
    write_epoch(log, 2, make_rows([3]), make_rows([4]))
    for step in itertools.count():
        directory = tmp_path / f"crash-{step}"
        shutil.copytree(log, directory)
        left = [step]

        def fail(operation, left=left):
            left[0] -= 1
            return Crash() if left[0] < 0 else None

        try:
            recover(directory, RecordingFiles(fail=fail))
        except Crash:
            assert ids_of(directory) == ids(1, 2, 3, 4)
            recover(directory, QuickFiles())
        assert ids_of(directory) == ids(1, 2, 3, 4)
        assert all(readout.sealed and readout.clean for readout in read_segments(directory))
        assert all(manifest_path(path).exists() for path in list_segments(directory))
        if left[0] >= 0:
            break
    assert step > 20


@pytest.mark.exhaustive
def test_a_power_cut_at_any_step_loses_no_acknowledged_row_and_makes_up_none(log, tmp_path):
    log.mkdir()
    files = RecordingFiles()
    limits = RotationLimits(max_rows=4)
    number = itertools.count()
    for incarnation in range(2):
        writer = LogWriter(log, queue_limit=100, limits=limits, files=files, writer_id=f"w{incarnation}")
        for size in (1, 3, 2):
            futures = [writer.submit(make_row(next(number))) for _ in range(size)]
            for future in futures:
                # Runs in the writer's thread at the moment of the acknowledgement.
                future.add_done_callback(lambda done: files.log.append(("ack", done.result().event_id)))
            for future in futures:
                future.result(30)
        if incarnation == 0:
            # The first ends like a crash: its last segment stays unsealed, and the second recovers it.
            writer._segments.seal = lambda: None
        writer.close()
    expected = {row["event_id"]: row for row in make_rows(range(12))}
    states = check_every_cut(Disk(log), files.log, tmp_path, expected)
    assert states > 70
    assert sum(operation[0] == "ack" for operation in files.log) == 12


def test_a_power_cut_at_any_step_of_recovery_loses_nothing(log, tmp_path):
    path = write_epoch(log, 1, make_rows([0, 1]), make_rows([2]))
    path.write_bytes(path.read_bytes() + bytes(100))
    write_epoch(log, 2, make_rows([3]))
    disk = Disk(log)
    disk.load(log)
    files = RecordingFiles()
    recover(log, files)
    rows = {row["event_id"]: row for row in make_rows(range(4))}
    history = [("ack", event_id) for event_id in rows] + files.log
    assert check_every_cut(disk, history, tmp_path, rows) > 25


def check_every_cut(disk, history, tmp_path, expected):
    """For each prefix of the history, in each state it may leave: all acknowledged rows, and no wrong one."""
    acked, checked, seen = set(), 0, set()
    for operation in history:
        if operation[0] == "ack":
            acked.add(operation[1])
        disk.apply(operation)
        for state in disk.states():
            key = (frozenset(state.items()), frozenset(acked))
            if key in seen:
                continue
            seen.add(key)
            directory = tmp_path / "after-the-cut"
            write_state(directory, state)
            for _ in range(2):  # as found, and after recovery
                rows = {row["event_id"]: row for row in read_log(directory)}
                assert acked <= set(rows), operation
                assert all(row == expected[event_id] for event_id, row in rows.items())
                recover(directory, QuickFiles())
            shutil.rmtree(directory)
            checked += 1
    return checked
