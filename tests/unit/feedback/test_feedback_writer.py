import asyncio
import errno
import json
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from feedback_support import GatedFiles, QuickFiles, RecordingFiles, failing, make_row, make_rows

from deployments.feedback.compaction import compact
from deployments.feedback.directory import read_log, read_segments
from deployments.feedback.schema import is_intact
from deployments.feedback.segment_writer import RotationLimits
from deployments.feedback.writer import LogWriter
from graph.errors import Conflict, InternalError, InvalidRequest, RequestTooLarge, Unavailable

LONG_S = 30


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def open_writer(log):
    """Opens writers on the log; closes them in the end."""
    opened = []

    def open_one(**options):
        options.setdefault("files", QuickFiles())
        writer = LogWriter(log, **options)
        opened.append(writer)
        return writer

    yield open_one
    for writer in opened:
        if isinstance(files := writer._segments._files, GatedFiles):
            files.open.set()
        writer.close()


def ids_of(log):
    return [row["event_id"] for row in read_log(log)]


def assert_conserved(stats):
    assert stats.accepted == stats.written + stats.failed + stats.pending


def test_an_acknowledged_row_can_be_read_at_once(log, open_writer):
    writer = open_writer()
    ack = writer.submit(make_row(1)).result(LONG_S)
    assert list(read_log(log)) == [make_row(1)]
    assert (ack.event_id, ack.sequence, ack.duplicate) == ("event-00001", 0, False)
    assert (log / ack.segment).exists()


def test_nothing_is_acknowledged_before_the_sync_and_what_piles_up_meanwhile_goes_as_one(log, open_writer):
    files = GatedFiles()
    writer = open_writer(files=files)
    first = writer.submit(make_row(0))
    assert files.entered.wait(LONG_S)
    rest = [writer.submit(make_row(number)) for number in range(1, 50)]
    assert not any(future.done() for future in (first, *rest))
    files.open.set()
    assert [future.result(LONG_S).sequence for future in (first, *rest)] == list(range(50))
    assert writer.stats.syncs == 2
    assert files.syncs == 3  # and the segment's head


def test_a_full_queue_refuses_at_once_and_loses_nothing(log, open_writer):
    files = GatedFiles()
    writer = open_writer(files=files, queue_limit=4)
    accepted = [writer.submit(make_row(number)) for number in range(4)]
    with pytest.raises(Unavailable) as refused:
        writer.submit(make_row(4))
    assert refused.value.retryable
    assert_conserved(writer.stats)
    assert (writer.stats.pending, writer.stats.refused) == (4, 1)
    files.open.set()
    wait(accepted, LONG_S)
    writer.submit(make_row(4)).result(LONG_S)
    assert len(ids_of(log)) == 5


def test_the_queue_is_bounded_in_bytes_too(open_writer):
    files = GatedFiles()
    writer = open_writer(files=files, queue_bytes=2000)
    writer.submit(make_row(0, text="x" * 1200))
    with pytest.raises(Unavailable):
        writer.submit(make_row(1, text="x" * 1200))
    with pytest.raises(RequestTooLarge):
        writer.submit(make_row(2, text="x" * 2001))


def test_a_row_that_does_not_fit_is_refused_at_once(log, open_writer):
    writer = open_writer()
    fields = {name: value for name, value in make_row(1).items() if name != "schema_version"}
    with pytest.raises(InvalidRequest):
        writer.submit({**fields, "text": "\ud800"})
    writer.submit(make_row(2)).result(LONG_S)
    assert ids_of(log) == ["event-00002"]


@pytest.mark.parametrize("value", ["\ud800", 7, 2**70])
def test_a_whole_row_that_arrow_cannot_hold_harms_no_other_of_its_group(log, open_writer, value):
    files = GatedFiles()
    writer = open_writer(files=files)
    first = writer.submit(make_row(0))
    assert files.entered.wait(LONG_S)
    group = [writer.submit(make_row(1)), writer.submit({**make_row(2), "text": value}), writer.submit(make_row(3))]
    files.open.set()
    with pytest.raises(InternalError, match="event-00002"):
        group[1].result(LONG_S)
    for future in (first, group[0], group[2]):
        future.result(LONG_S)
    assert ids_of(log) == ["event-00000", "event-00001", "event-00003"]
    stats = writer.stats
    assert (stats.accepted, stats.written, stats.failed, stats.pending) == (4, 3, 1, 0)


def test_a_row_of_another_version_keeps_what_this_one_does_not_know(log, open_writer):
    writer = open_writer()
    writer.submit({**make_row(1), "schema_version": 99, "mood": "glad"}).result(LONG_S)
    (row,) = read_log(log)
    assert json.loads(row["extra"]) == {"mood": "glad"}
    assert is_intact(row)


async def test_futures_of_an_event_loop_resolve_in_the_loop_and_may_be_cancelled(log, open_writer):
    loop = asyncio.get_running_loop()
    files = GatedFiles()
    commits = []
    writer = open_writer(
        files=files, new_future=loop.create_future, deliver=loop.call_soon_threadsafe, on_commit=commits.append
    )
    gone, kept = writer.submit(make_row(0)), writer.submit(make_row(1))
    gone.cancel()
    files.open.set()
    assert (await asyncio.wait_for(kept, LONG_S)).event_id == "event-00001"
    assert ids_of(log) == ["event-00000", "event-00001"]
    await asyncio.to_thread(writer.close)
    assert sum(commit.rows for commit in commits) == 2


def test_a_waiter_that_goes_away_stops_neither_its_row_nor_the_writer(log, open_writer):
    files = GatedFiles()
    writer = open_writer(files=files)

    async def give_up():
        waiting = asyncio.wrap_future(writer.submit(make_row(1)))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(give_up())
    files.open.set()
    writer.submit(make_row(2)).result(LONG_S)
    assert ids_of(log) == ["event-00001", "event-00002"]


def test_a_repeat_waits_for_the_first_and_is_called_a_duplicate(log, open_writer):
    files = GatedFiles()
    writer = open_writer(files=files)
    first = writer.submit(make_row(1))
    again = writer.submit(make_row(1, ts_server_us=9, model="m"))
    assert not again.done()
    files.open.set()
    assert not first.result(LONG_S).duplicate
    assert again.result(LONG_S).duplicate
    assert again.result().sequence == first.result().sequence
    later = writer.submit(make_row(1))
    assert later.result(LONG_S).duplicate
    assert ids_of(log) == ["event-00001"]
    assert (writer.stats.accepted, writer.stats.duplicates) == (1, 2)


def test_other_content_under_a_known_event_id_is_a_conflict_before_and_after_the_sync(open_writer):
    files = GatedFiles()
    writer = open_writer(files=files)
    first = writer.submit(make_row(1))
    for _ in range(2):
        with pytest.raises(Conflict) as conflict:
            writer.submit(make_row(1, text="something else"))
        assert conflict.value.param == "event_id"
        files.open.set()
        first.result(LONG_S)


def test_a_repeat_after_a_restart_is_still_known(open_writer):
    writer = open_writer()
    ack = writer.submit(make_row(1)).result(LONG_S)
    writer.close()
    restarted = open_writer()
    again = restarted.submit(make_row(1)).result(LONG_S)
    assert (again.duplicate, again.segment, again.sequence) == (True, ack.segment, ack.sequence)
    with pytest.raises(Conflict):
        restarted.submit(make_row(1, text="something else"))


def test_a_repeat_after_a_crash_is_still_known(log, open_writer):
    writer = open_writer()
    writer.submit(make_row(1)).result(LONG_S)
    writer._segments.seal = lambda: None  # ends without sealing
    writer.close()
    restarted = open_writer()
    assert restarted.recovered.rows == 1
    assert restarted.submit(make_row(1)).result(LONG_S).duplicate
    assert ids_of(log) == ["event-00001"]


def test_a_repeat_of_a_compacted_row_is_still_known_after_a_restart(log, open_writer):
    writer = open_writer()
    for number in range(5):
        writer.submit(make_row(number)).result(LONG_S)
    writer.close()
    assert compact(log, QuickFiles()).rows_written == 5
    writer = open_writer(recent_rows=3)
    writer.submit(make_row(5)).result(LONG_S)
    assert writer.submit(make_row(4)).result(LONG_S).duplicate
    with pytest.raises(Conflict):
        writer.submit(make_row(3, text="other"))


def test_memory_of_event_ids_is_bounded_and_readers_drop_what_it_forgot(log, open_writer):
    writer = open_writer(recent_rows=2)
    for number in (1, 2, 3):
        writer.submit(make_row(number)).result(LONG_S)
    assert writer.submit(make_row(3)).result(LONG_S).duplicate
    assert not writer.submit(make_row(1)).result(LONG_S).duplicate
    writer.close()
    assert ids_of(log) == ["event-00001", "event-00002", "event-00003"]
    restarted = open_writer(recent_rows=2)
    assert list(restarted._recent) == ["event-00003", "event-00001"]


@pytest.mark.parametrize(
    ("kind", "code", "after"),
    # The first write and sync of a segment are its head's; the second row's batch is the third of each.
    [("sync", errno.EIO, 2), ("write", errno.ENOSPC, 2), ("write", errno.EIO, 2)],
)
def test_a_failed_write_or_sync_acknowledges_nothing_and_is_the_last(log, open_writer, kind, code, after):
    files = RecordingFiles(fail=failing(kind, code, after))
    writer = open_writer(files=files)
    writer.submit(make_row(1)).result(LONG_S)
    assert writer.healthy
    broken = writer.submit(make_row(2))
    with pytest.raises(Unavailable, match=re.escape(os.strerror(code))):
        broken.result(LONG_S)
    assert not writer.healthy
    files.fail = lambda operation: None  # the disk is well again, but the pages are not to be trusted
    for number in (2, 3):
        with pytest.raises(Unavailable, match="stopped"):
            writer.submit(make_row(number)).result(LONG_S)
    writer.close()
    assert_conserved(writer.stats)
    assert (writer.stats.written, writer.stats.failed, writer.stats.refused) == (1, 1, 2)
    restarted = open_writer()
    restarted.submit(make_row(2)).result(LONG_S)
    assert ids_of(log) == ["event-00001", "event-00002"]


def test_all_rows_that_wait_fail_with_the_batch_before_them_repeats_too(log, open_writer):
    class FailsWhenOpened(GatedFiles):
        def fdatasync(self, fd):
            super().fdatasync(fd)
            raise OSError(errno.EIO, "EIO")

    files = FailsWhenOpened()
    writer = open_writer(files=files)
    waiting = [writer.submit(make_row(0))]
    assert files.entered.wait(LONG_S)
    waiting += [writer.submit(row) for row in (*make_rows(range(1, 5)), make_row(1))]
    files.open.set()
    assert all(isinstance(future.exception(LONG_S), Unavailable) for future in waiting)
    assert_conserved(writer.stats)
    assert (writer.stats.failed, writer.stats.duplicates) == (5, 1)


def test_a_disk_that_takes_a_part_of_each_write_gets_it_all(log, open_writer):
    class ShortWrites(QuickFiles):
        def write(self, fd, data):
            return super().write(fd, data[:100])

    writer = open_writer(files=ShortWrites())
    writer.submit(make_row(1)).result(LONG_S)
    assert list(read_log(log)) == [make_row(1)]


def test_close_writes_all_that_was_accepted_and_seals(log, open_writer):
    writer = open_writer(files=None)
    futures = [writer.submit(make_row(number)) for number in range(100)]
    writer.close()
    assert all(future.done() for future in futures)
    assert [readout.sealed for readout in read_segments(log)] == [True]
    assert len(ids_of(log)) == 100
    with pytest.raises(Unavailable, match="closed"):
        writer.submit(make_row(100)).result(LONG_S)
    assert writer.healthy
    writer.close()


def test_a_writer_that_wrote_nothing_leaves_no_segment(log, open_writer):
    open_writer().close()
    assert list(read_segments(log)) == []


def test_segments_rotate_by_rows_without_losing_a_row(log, open_writer):
    writer = open_writer(limits=RotationLimits(max_rows=10))
    for number in range(25):
        writer.submit(make_row(number)).result(LONG_S)
    writer.close()
    assert [(readout.rows, readout.sealed) for readout in read_segments(log)] == [
        (10, True),
        (10, True),
        (5, True),
    ]
    assert len(ids_of(log)) == 25


def test_an_idle_segment_is_sealed_when_it_is_old(log, open_writer):
    sealed = threading.Event()

    class TellsOfManifests(QuickFiles):
        def rename(self, source, target):
            super().rename(source, target)
            sealed.set()

    writer = open_writer(files=TellsOfManifests(), limits=RotationLimits(max_age_s=0.01))
    writer.submit(make_row(1)).result(LONG_S)
    assert sealed.wait(LONG_S)


@pytest.mark.parametrize("age_s", [1e11, float("inf")])
def test_a_segment_may_stay_open_as_long_as_one_likes(log, open_writer, age_s):
    writer = open_writer(limits=RotationLimits(max_age_s=age_s))
    for number in range(2):
        writer.submit(make_row(number)).result(LONG_S)
    assert writer.healthy


def test_new_limits_hold_from_then_on(log, open_writer):
    writer = open_writer()
    writer.submit(make_row(1)).result(LONG_S)
    writer.reconfigure(queue_limit=1, limits=RotationLimits(max_rows=2))
    writer.submit(make_row(2)).result(LONG_S)
    writer.submit(make_row(3)).result(LONG_S)
    writer.close()
    assert [readout.rows for readout in read_segments(log)] == [2, 1]


def test_two_live_writers_share_a_log(log, open_writer):
    first, second = open_writer(), open_writer()
    for number in range(4):
        (first, second)[number % 2].submit(make_row(number)).result(LONG_S)
    assert sorted(ids_of(log)) == [row["event_id"] for row in make_rows(range(4))]
    assert second.recovered.segments == ()


def test_every_row_is_accounted_for_under_concurrent_submitters(log, open_writer):
    writer = open_writer(queue_limit=20, limits=RotationLimits(max_rows=50))
    outcomes = []

    def submit(worker):
        for number in range(100):
            try:
                # Every tenth id is shared by all workers, with one content.
                future = writer.submit(make_row(number if number % 10 == 0 else worker * 1000 + number))
            except Unavailable:
                outcomes.append("refused")
            else:
                outcomes.append("duplicate" if future.result(LONG_S).duplicate else "written")
                assert_conserved(writer.stats)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(submit, range(1, 9)))
    writer.close()
    stats = writer.stats
    assert_conserved(stats)
    assert (stats.pending, stats.failed) == (0, 0)
    assert stats.written == outcomes.count("written") == len(ids_of(log))
    assert stats.duplicates == outcomes.count("duplicate")
    assert stats.refused == outcomes.count("refused")
    assert len(outcomes) == 800
