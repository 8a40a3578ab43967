import json
import shutil

import pytest
from archive_support import (
    LiveWriter,
    all_rows,
    files_with,
    generation,
    tombstone,
    visible_rows,
    write_epoch,
)
from feedback_support import QuickFiles, make_row, make_rows
from pyarrow import fs

from deployments.feedback import shipping
from deployments.feedback.archive import read_archive_manifest, verify_archive
from deployments.feedback.compaction import compact
from deployments.feedback.files import try_lock
from deployments.feedback.lineage import adapters_trained_on, record_lineage
from deployments.feedback.object_store import ObjectStore
from deployments.feedback.restoring import restore
from deployments.feedback.segment_format import manifest_path
from deployments.feedback.shipping import main, ship
from graph.errors import ConfigurationError, Conflict, InternalError

SECRET = "what nobody may read any more"


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.fixture(params=["a folder", "in memory", "like s3"])
def store(request, tmp_path):
    if request.param == "a folder":
        return ObjectStore.from_uri((tmp_path / "store").as_uri())
    memory = fs._MockFileSystem()
    memory.create_dir("bucket/prefix", recursive=True)
    if request.param == "in memory":
        return ObjectStore(memory, "bucket/prefix", "mock:///bucket/prefix")
    return ObjectStore(WithoutMove(memory), "bucket/prefix/", "s3://bucket/prefix")


class WithoutMove:
    """A file system that makes folders by itself, cannot move, and calls itself S3."""

    type_name = "s3"

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        assert name not in ("move", "create_dir")
        return getattr(self._inner, name)

    def open_output_stream(self, path):
        self._inner.create_dir(path.rpartition("/")[0], recursive=True)
        return self._inner.open_output_stream(path)


def push(log, store):
    return ship(log, store, QuickFiles())


def pull(store, root):
    return restore(store, root, QuickFiles())


def make_log(log):
    """Rows in the archive, in a sealed segment and in an open one; the durable ones by event_id."""
    write_epoch(log, 1, [*make_rows(range(10)), generation(1)])
    compact(log, QuickFiles())
    write_epoch(log, 2, make_rows(range(10, 15)))
    record_lineage(log, "adapter", "dataset", ["event-00001"], QuickFiles())
    durable = visible_rows(log)
    live = LiveWriter(log)
    live.write(*make_rows([99]))
    return durable, live


def test_what_is_durable_is_shipped_and_comes_back_and_the_rest_is_the_lag(log, store, tmp_path):
    durable, live = make_log(log)
    report = push(log, store)
    assert (report.lag_segments, report.archive_version, report.problems) == (1, 1, ())
    assert report.lag_bytes == live.segments.size_bytes
    assert report.stored == len(store.sizes()) == 6
    back = pull(store, tmp_path / "back")
    assert (back.segments, back.archive_rows, back.objects) == (1, 11, 6 - 1)
    assert all_rows(tmp_path / "back") == durable
    assert verify_archive(tmp_path / "back") == ()
    assert adapters_trained_on(tmp_path / "back", ["event-00001"]) == ("adapter",)
    live.close()


def test_a_second_push_ships_nothing_and_a_later_one_only_what_is_new(log, store):
    _, live = make_log(log)
    first = push(log, store)
    again = push(log, store)
    assert (again.objects, again.size_bytes, again.deleted, again.stored) == (0, 0, 0, first.stored)
    live.seal()
    live.close()
    assert push(log, store).objects == 2  # the segment and its manifest


def test_an_empty_log_can_be_shipped_and_comes_back_empty(log, store, tmp_path):
    log.mkdir()
    assert push(log, store).stored == 1
    assert pull(store, tmp_path / "back").archive_version == 0
    assert all_rows(tmp_path / "back") == {}


def test_erasure_reaches_the_store(log, store, tmp_path):
    write_epoch(log, 1, [make_row(1, text=SECRET), make_row(2)])
    compact(log, QuickFiles())
    write_epoch(log, 2, [make_row(3, text=SECRET)])
    push(log, store)
    assert any(SECRET.encode() in store.get(key) for key in store.sizes())
    write_epoch(log, 3, [tombstone("event-00001"), tombstone("event-00003")])
    compact(log, QuickFiles())
    assert push(log, store).deleted == 3
    pull(store, tmp_path / "back")
    assert files_with(tmp_path / "back", SECRET) == []
    assert sorted(store.sizes()) == [
        "archive/events-2-0.parquet",  # the one of before, without the row
        "archive/events-2-1.parquet",
        "archive/manifest.json",
        "log-id",
    ]


def test_a_push_that_ends_at_any_object_leaves_a_store_that_can_be_restored(log, store, tmp_path, monkeypatch):
    write_epoch(log, 1, make_rows([1, 2]))
    compact(log, QuickFiles())
    write_epoch(log, 2, make_rows([3]))
    push(log, store)
    before = all_rows(log)
    write_epoch(log, 3, [tombstone("event-00001"), make_row(4)])
    compact(log, QuickFiles())
    write_epoch(log, 4, make_rows([5]))
    after = all_rows(log)
    steps = [0]

    def failing_after(allowed):
        left = [allowed]

        def wrap(method):
            def wrapped(self, key, *data):
                if not left[0]:
                    raise OSError("the network is gone")
                left[0] -= 1
                steps[0] += 1
                method(self, key, *data)

            return wrapped

        return wrap

    for allowed in range(20):
        steps[0] = 0
        with monkeypatch.context() as patch:
            wrap = failing_after(allowed)
            for name in ("put", "delete"):
                patch.setattr(ObjectStore, name, wrap(getattr(ObjectStore, name)))
            try:
                push(log, store)
                ended = True
            except OSError:
                ended = False
        back = tmp_path / f"back-{allowed}"
        pull(store, back)
        rows = visible_rows(back)
        tombstoned = "erase-event-00001" in all_rows(back)
        assert set(rows) - {"event-00005"} == set(after if tombstoned else before) - {
            "erase-event-00001",
            "event-00005",
        }
        if ended and not steps[0]:
            break
    assert allowed >= 4
    assert all_rows(back) == after


@pytest.mark.parametrize("step", ["_read", "list_segments"])
def test_a_log_that_is_compacted_while_it_is_shipped_is_shipped_as_it_is_then(log, store, tmp_path, monkeypatch, step):
    write_epoch(log, 1, make_rows([1]))
    write_epoch(log, 2, make_rows([2]))
    left = [1]
    original = getattr(shipping, step)

    def compact_first(path):
        if left[0]:
            left[0] = 0
            compact(log, QuickFiles())
        return original(path)

    monkeypatch.setattr(shipping, step, compact_first)
    report = push(log, store)
    assert (left, report.archive_version) == ([0], 1)
    pull(store, tmp_path / "back")
    assert all_rows(tmp_path / "back") == all_rows(log)
    assert not any(key.startswith("writer=") for key in store.sizes())


def test_damaged_files_are_reported_and_never_replace_a_good_copy(log, store, tmp_path):
    durable, live = make_log(log)
    push(log, store)
    (parquet,) = (log / "archive").glob("*.parquet")
    (segment,) = (log / "writer=w" / "epoch=2").glob("*.arrows")
    for path in (parquet, segment):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert push(log, store).objects == 0
    pull(store, tmp_path / "back")
    assert all_rows(tmp_path / "back") == durable
    store.delete("archive/" + parquet.name)
    store.delete(segment.relative_to(log).as_posix())
    report = push(log, store)
    assert report.objects == 0
    assert len(report.problems) == 2
    assert all("damaged" in problem for problem in report.problems)
    live.close()


def test_an_object_that_was_cut_short_is_shipped_again(log, store, tmp_path):
    _, live = make_log(log)
    push(log, store)
    for key in [key for key in store.sizes() if key != "log-id"]:
        data = store.get(key)
        store.put(key, data[: len(data) // 2])
        if key == "archive/manifest.json":
            with pytest.raises(InternalError, match="cannot be trusted"):
                push(log, store)
            store.delete(key)
        assert push(log, store).objects == 1
        assert store.get(key) == data
    live.close()


@pytest.mark.parametrize("has_been_shipped", [False, True])
def test_another_log_never_touches_the_store(log, store, tmp_path, has_been_shipped):
    write_epoch(log, 1, make_rows([1]))
    push(log, store)
    before = store.sizes()
    other = tmp_path / "other"
    write_epoch(other, 1, make_rows([2]))
    if has_been_shipped:
        push(other, ObjectStore.from_uri((tmp_path / "elsewhere").as_uri()))
    with pytest.raises(Conflict, match="another log"):
        push(other, store)
    shutil.rmtree(log)
    log.mkdir()  # the disk was lost, and an empty one took its place
    with pytest.raises(Conflict, match="restore"):
        push(log, store)
    assert store.sizes() == before


def test_a_log_that_lost_its_archive_does_not_delete_the_copy(log, store):
    write_epoch(log, 1, make_rows([1]))
    compact(log, QuickFiles())
    push(log, store)
    before = store.sizes()
    shutil.rmtree(log / "archive")
    with pytest.raises(Conflict, match="lost something"):
        push(log, store)
    assert store.sizes() == before


def test_a_store_with_rows_of_no_known_log_is_left_alone(log, store):
    log.mkdir()
    store.put("writer=x/epoch=1/seg-000000.arrows", b"rows")
    store.put("notes/readme.txt", b"not ours")
    with pytest.raises(Conflict, match="log-id"):
        push(log, store)
    store.delete("writer=x/epoch=1/seg-000000.arrows")
    push(log, store)
    assert "notes/readme.txt" in store.sizes()


def test_a_restored_log_takes_over_and_forgets_what_its_archive_had_absorbed(log, store, tmp_path):
    write_epoch(log, 1, make_rows([1]))
    compact(log, QuickFiles())
    push(log, store)
    back = tmp_path / "back"
    pull(store, back)
    assert read_archive_manifest(back).segments == ()
    write_epoch(back, 1, make_rows([2]))  # the very name that the lost log had absorbed
    assert sorted(all_rows(back)) == ["event-00001", "event-00002"]
    assert push(back, store).problems == ()
    assert sorted(all_rows(back)) == ["event-00001", "event-00002"]


def test_nothing_is_restored_from_a_store_with_a_damaged_or_missing_object(log, store, tmp_path):
    durable, live = make_log(log)
    push(log, store)
    good = {key: store.get(key) for key in store.sizes()}
    refused = set()
    for key in good:
        for at in (len(good[key]) // 2, len(good[key]) - 12):
            data = bytearray(good[key])
            data[at] ^= 1
            store.put(key, bytes(data))
            try:
                pull(store, tmp_path / "back")
            except InternalError:
                refused.add(key)
                assert not (tmp_path / "back").exists()
            else:
                assert all_rows(tmp_path / "back") == durable
                shutil.rmtree(tmp_path / "back")
        store.put(key, good[key])
    assert refused >= {key for key in good if "seg-" in key or key.startswith("archive/")}
    store.delete("archive/events-1-0.parquet")
    with pytest.raises(InternalError, match="missing"):
        pull(store, tmp_path / "back")
    live.close()


def test_a_restore_fills_only_a_folder_that_is_empty(log, store, tmp_path):
    write_epoch(log, 1, make_rows([1]))
    push(log, store)
    with pytest.raises(ConfigurationError, match="not empty"):
        pull(store, log)
    (tmp_path / "empty").mkdir()
    pull(store, tmp_path / "empty")
    assert all_rows(tmp_path / "empty") == all_rows(log)
    assert sorted(path.name for path in tmp_path.iterdir() if "restoring" in path.name) == []


def test_a_store_without_a_log_cannot_be_restored(store, tmp_path):
    with pytest.raises(ConfigurationError, match="no log"):
        pull(store, tmp_path / "back")


def test_an_unknown_store_is_an_error_that_tells_no_secret(log):
    log.mkdir()
    with pytest.raises(ConfigurationError, match="nope://bucket/x") as error:
        ship(log, "nope://key:hidden-secret@bucket/x?secret=hidden-secret")
    assert "hidden-secret" not in error.value.message


def test_a_put_that_comes_out_short_is_an_error(monkeypatch):
    store = ObjectStore(WithoutMove(fs._MockFileSystem()), "bucket", "s3://bucket")
    monkeypatch.setattr(store, "_write", lambda path, data: None)
    with pytest.raises(OSError, match="written"):
        store.put("key", b"data")


def test_a_sealed_segment_without_its_manifest_in_the_store_is_not_restored(log, store, tmp_path):
    path = write_epoch(log, 1, make_rows([1]))
    push(log, store)
    store.delete(manifest_path(path).relative_to(log).as_posix())
    assert pull(store, tmp_path / "back").segments == 0


def test_the_commands_push_and_restore(log, tmp_path, capsys):
    _, live = make_log(log)
    uri = (tmp_path / "store").as_uri()
    assert main(["push", "--log", str(log), "--to", uri, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["lag_segments"] == 1
    assert main(["restore", "--log", str(tmp_path / "back"), "--from", uri]) == 0
    assert "archive rows" in capsys.readouterr().out
    assert main(["restore", "--log", str(tmp_path / "back"), "--from", uri]) == 1
    assert "not empty" in capsys.readouterr().err
    assert main(["push", "--log", str(tmp_path / "none"), "--to", uri]) == 1
    assert "no log" in capsys.readouterr().err
    lock = try_lock(log / "archive" / shipping.LOCK)
    assert main(["push", "--log", str(log), "--to", uri]) == 3
    assert "at work" in capsys.readouterr().out
    lock.close()
    live.close()
