import itertools
import shutil

import pytest
from feedback_support import Crash, QuickFiles, RecordingFiles

from deployments.feedback.files import try_lock
from deployments.feedback.lineage import adapters_trained_on, list_lineage, record_lineage
from graph.errors import Conflict, InternalError, InvalidRequest, Unavailable


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def record(log, adapter, *event_ids, dataset="dataset-1"):
    record_lineage(log, adapter, dataset, event_ids, QuickFiles())


def test_the_adapters_that_any_of_the_events_went_into_are_named_in_order(log):
    record(log, "b", "event-1", "event-2")
    record(log, "a", "event-2", "event-3")
    assert adapters_trained_on(log, ["event-2"]) == ("a", "b")
    assert adapters_trained_on(log, {"event-1", "event-9"}) == ("b",)
    assert adapters_trained_on(log, ["event-9"]) == adapters_trained_on(log, []) == ()


def test_a_log_without_lineage_names_no_adapter(log):
    assert adapters_trained_on(log, ["event-1"]) == ()


def test_the_same_again_does_nothing_and_anything_else_is_a_conflict(log):
    record(log, "a", "event-1", "event-2")
    whole = list_lineage(log)[0].read_bytes()
    record(log, "a", "event-2", "event-1", "event-2")
    for event_ids, dataset in ((["event-1"], "dataset-1"), (["event-1", "event-2"], "dataset-2")):
        with pytest.raises(Conflict, match="recorded before"):
            record(log, "a", *event_ids, dataset=dataset)
    assert list_lineage(log)[0].read_bytes() == whole


@pytest.mark.parametrize("adapter", ["", "a/b", "../a", "a\n", "é", "a" * 129, "a b", "a\0"])
def test_a_name_that_could_leave_the_folder_is_refused(log, adapter):
    with pytest.raises(InvalidRequest, match="1-128"):
        record(log, adapter, "event-1")
    assert not log.exists()


@pytest.mark.parametrize("adapter", [".", "..", ".hidden", "a.parquet", "a.parquet.tmp", "A" * 128])
def test_every_other_name_is_kept_and_found(log, adapter):
    record(log, adapter, "event-1")
    assert adapters_trained_on(log, ["event-1"]) == (adapter,)


def test_a_crash_at_any_step_leaves_all_of_a_record_or_nothing(log, tmp_path):
    for step in itertools.count():
        directory = tmp_path / f"crash-{step}"
        left = [step]

        def fail(operation, left=left):
            left[0] -= 1
            return Crash() if left[0] < 0 else None

        try:
            record_lineage(directory, "a", "d", ["event-1"], RecordingFiles(fail=fail))
        except Crash:
            assert adapters_trained_on(directory, ["event-1"]) in ((), ("a",))
            record_lineage(directory, "a", "d", ["event-1"], QuickFiles())
        assert adapters_trained_on(directory, ["event-1"]) == ("a",)
        shutil.rmtree(directory)
        if left[0] >= 0:
            break
    assert step > 5


def test_of_two_that_record_at_once_one_is_told_to_come_back(log):
    record(log, "a", "event-1")
    lock = try_lock(log / "lineage" / "writer.lock")
    with pytest.raises(Unavailable):
        record(log, "b", "event-1")
    lock.close()
    record(log, "b", "event-1")


def test_a_damaged_file_is_an_error_and_no_short_list(log):
    record(log, "a", "event-1")
    (path,) = list_lineage(log)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InternalError, match="damaged"):
        adapters_trained_on(log, ["event-1"])
