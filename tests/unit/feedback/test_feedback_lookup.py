import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from archive_support import LiveWriter, generation, tombstone, write_epoch, write_newer, write_version_1
from feedback_support import QuickFiles, make_row, make_rows

from deployments.feedback import lookup, segment_reader, tail_index
from deployments.feedback.archive import read_archive_manifest
from deployments.feedback.compaction import compact
from deployments.feedback.directory import recover
from deployments.feedback.lookup import LogReader
from deployments.feedback.schema import to_batch
from deployments.feedback.segment_format import encode_batch
from deployments.feedback.segment_reader import SegmentCursor, read_on, read_segment
from deployments.feedback.segment_writer import RotationLimits
from deployments.feedback.writer import LogWriter
from graph.errors import InternalError

LONG_S = 30


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def live(log):
    writer = LiveWriter(log)
    yield writer
    writer.close()


def ids_about(reader, generation_id):
    return [row["event_id"] for row in reader.about(generation_id)]


def test_a_log_that_does_not_exist_has_nothing(log):
    reader = LogReader(log)
    assert reader.event("event-00001") is None
    assert reader.generation("generation-1") is None
    assert reader.about("generation-1") == []
    assert not reader.is_erased("event-00001")


def test_a_row_is_found_as_soon_as_it_is_acknowledged(log):
    reader = LogReader(log)
    with_another_reader = LogReader(log)
    writer = LogWriter(log, files=QuickFiles(), limits=RotationLimits(max_rows=7))
    for number in range(30):
        assert reader.event(f"event-{number:05d}") is None
        writer.submit(make_row(number)).result(LONG_S)
        assert reader.event(f"event-{number:05d}") == make_row(number)
    assert with_another_reader.event("event-00000") == make_row(0)
    writer.close()


def test_a_row_is_found_wherever_it_goes(log):
    reader = LogReader(log)
    writer = LiveWriter(log)
    writer.write(generation(1), make_row(1))
    expected = ([make_row(1)], generation(1), make_row(1))

    def found():
        return reader.about("generation-1"), reader.generation("generation-1"), reader.event("event-00001")

    assert found() == expected  # unsealed
    writer.close()
    assert found() == expected  # left by a crash
    recover(log, QuickFiles())
    assert found() == expected  # recovered
    compact(log, QuickFiles())
    assert found() == expected  # in the archive
    assert LogReader(log).event("event-00001") == make_row(1)


def test_a_generation_is_no_feedback_and_feedback_is_no_generation(log, live):
    live.write(generation(1), make_row(1))
    reader = LogReader(log)
    assert reader.generation("event-00001") is None
    assert reader.event("generation-1") == generation(1)
    assert ids_about(reader, "generation-1") == ["event-00001"]


def test_about_has_what_people_and_judges_said_in_order_of_time_before_and_after_compaction(log, live):
    rows = [
        make_row(3, generation_id="g", ts_server_us=30),
        make_row(1, generation_id="g", ts_server_us=10, kind="validator"),
        make_row(2, other_generation_id="g", ts_server_us=20, kind="preference"),
        make_row(4, generation_id="g", ts_server_us=30, kind="retract"),
        make_row(5, generation_id="g", kind="undelivered"),
        make_row(6, generation_id="other"),
        generation(7, other_generation_id="g"),
    ]
    live.write(*rows)
    live.seal()
    reader = LogReader(log)
    wanted = [f"event-{number:05d}" for number in (1, 2, 3, 4)]
    assert ids_about(reader, "g") == wanted
    compact(log, QuickFiles())
    assert ids_about(reader, "g") == wanted
    live.write(make_row(0, generation_id="g", ts_server_us=25))
    assert ids_about(reader, "g") == [*wanted[:2], "event-00000", *wanted[2:]]


@pytest.mark.parametrize("compacted", [False, True])
def test_of_equal_event_ids_the_first_written_is_found(log, compacted):
    write_epoch(log, 1, [make_row(1, text="first", generation_id="g")])
    if compacted:
        compact(log, QuickFiles())
    write_epoch(log, 2, [make_row(1, text="again", generation_id="g")])
    reader = LogReader(log)
    assert reader.event("event-00001")["text"] == "first"
    assert [row["text"] for row in reader.about("g")] == ["first"]


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("compacted", ["not", "then", "before"])
def test_erased_rows_are_hidden_at_once(log, live, sealed, compacted):
    reader = LogReader(log)
    live.write(generation(1), make_row(1), generation(2), make_row(2), make_row(3, other_generation_id="generation-1"))
    if compacted == "before":
        live.seal()
        compact(log, QuickFiles())
    assert reader.event("event-00001") is not None
    live.write(
        tombstone("generation-1", of_generation=True, generation_id="generation-1"),
        tombstone("event-00002"),
    )
    if sealed or compacted == "then":
        live.seal()
    if compacted == "then":
        compact(log, QuickFiles())
    for one in (reader, LogReader(log)):
        assert [one.event(event_id) for event_id in ("event-00001", "event-00002", "event-00003")] == [None] * 3
        assert one.generation("generation-1") is None
        assert one.about("generation-1") == one.about("generation-2") == []
        assert one.generation("generation-2") == generation(2)
        assert one.is_erased("generation-1")
        assert one.is_erased("event-00002")
        assert not one.is_erased("generation-2")
        assert one.event("erase-event-00002")["kind"] == "tombstone"
        assert one.event("erase-generation-1")["kind"] == "tombstone"


def test_a_row_that_comes_after_its_tombstone_is_never_found(log, live):
    live.write(tombstone("event-00001"))
    live.seal()
    compact(log, QuickFiles())
    live.write(make_row(1))
    assert LogReader(log).event("event-00001") is None


def test_rows_of_older_and_newer_tables_are_found(log, monkeypatch):
    write_version_1(monkeypatch, log, 1, make_rows([1]))
    write_newer(monkeypatch, log, 2, make_rows([2]))
    reader = LogReader(log)
    assert reader.event("event-00001")["quality_score"] is None
    assert reader.event("event-00002")["text"] == make_row(2)["text"]
    assert "mood" not in reader.event("event-00002")
    compact(log, QuickFiles())
    assert reader.event("event-00001")["schema_version"] == 1


def test_ids_of_equal_hash_are_told_apart(log, live, monkeypatch):
    monkeypatch.setattr(tail_index, "hash", lambda id: 7, raising=False)
    reader = LogReader(log)
    live.write(*make_rows([1, 2]))
    assert reader.event("event-00002") == make_row(2)
    live.seal()
    assert reader.event("event-00002") == make_row(2)
    assert reader.event("event-00003") is None
    assert ids_about(reader, "generation-1") == ["event-00001"]


def test_a_batch_that_is_still_being_written_is_found_when_it_is_whole(log, live):
    live.write(*make_rows([1]))
    reader = LogReader(log)
    reader.event("event-00001")
    head_crc = live.segments._head_crc
    message = encode_batch(to_batch(make_rows([2])), live.claim.writer_id, 1, head_crc)
    with live.segments.path.open("ab") as file:
        for part in (message[:100], message[100:-1]):
            file.write(part)
            file.flush()
            assert reader.event("event-00002") is None
        file.write(message[-1:])
        file.flush()
    assert reader.event("event-00002") == make_row(2)


def test_a_segment_is_followed_to_the_batches_that_a_whole_reading_gives(log, monkeypatch):
    path = write_epoch(log, 1, *(make_rows(range(at, at + 1 + at % 5)) for at in range(0, 100, 5)), seal=False)
    whole = read_segment(path).batches
    for window in (1, 700, 5_000, 10_000, 2**20):
        monkeypatch.setattr(segment_reader, "READ_ON_BYTES", window)
        cursor, followed = SegmentCursor(path), []
        while (step := read_on(cursor))[1]:
            cursor = step[0]
            followed += step[1]
        assert [(b.first_seq, b.start_byte, b.size_bytes) for b in followed] == [
            (b.first_seq, b.start_byte, b.size_bytes) for b in whole
        ]
        assert [b.data.to_pylist() for b in followed] == [b.data.to_pylist() for b in whole]
        assert cursor.offset == path.stat().st_size


def test_no_flip_of_a_bit_gives_the_follower_what_a_whole_reading_does_not_give(log):
    path = write_epoch(log, 1, make_rows([0, 1]), make_rows([2]), make_rows([3, 4]), seal=False)
    whole = path.read_bytes()
    for at in range(0, len(whole), 37):
        flipped = bytearray(whole)
        flipped[at] ^= 4
        path.write_bytes(flipped)
        _, followed = read_on(SegmentCursor(path))
        assert [b.data.to_pylist() for b in followed] == [b.data.to_pylist() for b in read_segment(path).batches]


def test_a_row_whose_bytes_have_changed_since_is_an_error_and_no_wrong_row(log, live):
    live.write(*make_rows([1]))
    reader = LogReader(log)
    assert reader.event("event-00001") == make_row(1)
    path = live.segments.path
    data = bytearray(path.read_bytes())
    data[data.index(b"comment 1")] ^= 1
    path.write_bytes(data)
    with pytest.raises(InternalError, match="damaged"):
        reader.event("event-00001")


@pytest.mark.exhaustive
def test_no_flip_of_a_bit_in_the_archive_gives_a_wrong_row(log):
    write_epoch(log, 1, make_rows(range(20)))
    compact(log, QuickFiles())
    (file,) = read_archive_manifest(log).files
    path = log / "archive" / file.name
    whole = path.read_bytes()
    refused = 0
    for at in range(4, len(whole), 29):
        flipped = bytearray(whole)
        flipped[at] ^= 1
        path.write_bytes(flipped)
        try:
            assert LogReader(log).event("event-00007") in (make_row(7), None)
        except InternalError:
            refused += 1
    assert refused > 50


def test_no_text_of_the_log_is_kept_in_memory(log, live):
    before = pa.total_allocated_bytes()
    live.write(*(make_row(number, text="x" * 10_000) for number in range(200)))
    live.seal()
    live.write(*(make_row(number, text="x" * 10_000) for number in range(200, 400)))
    reader = LogReader(log)
    assert reader.event("event-00150") is not None
    assert pa.total_allocated_bytes() - before < 100_000


def test_segments_in_the_archive_are_let_go(log, live):
    live.write(*make_rows(range(100)))
    live.seal()
    reader = LogReader(log)
    reader.event("event-00001")
    assert len(reader._segments) == 1
    compact(log, QuickFiles())
    assert reader.event("event-00001") == make_row(1)
    assert reader._segments == {}


@pytest.mark.parametrize("step", ["listing", "reading"])
def test_a_compaction_in_the_middle_of_a_look_up_hides_nothing(log, live, monkeypatch, step):
    live.write(*make_rows([1]))
    live.seal()
    reader = LogReader(log)
    if step == "reading":
        reader.event("event-00001")
    left = [1]

    def after_a_compaction(function):
        def wrapped(*arguments):
            if left[0]:
                left[0] = 0
                compact(log, QuickFiles())
            return function(*arguments)

        return wrapped

    name = "list_segments" if step == "listing" else "read_batch"
    monkeypatch.setattr(lookup, name, after_a_compaction(getattr(lookup, name)))
    assert reader.event("event-00001") == make_row(1)
    assert left == [0]


@pytest.mark.exhaustive
def test_what_was_acknowledged_is_found_by_every_thread_while_the_log_is_compacted(log):
    writer = LogWriter(log, files=QuickFiles(), limits=RotationLimits(max_rows=20))
    reader = LogReader(log)
    done = threading.Event()

    def keep_compacting():
        while not done.is_set():
            compact(log, QuickFiles(), max_file_rows=50)

    def write_and_look(worker):
        for number in range(worker * 1000, worker * 1000 + 40):
            writer.submit(make_row(number)).result(LONG_S)
            assert reader.event(f"event-{number:05d}") == make_row(number)
            assert reader.event(f"event-{worker * 1000:05d}") == make_row(worker * 1000)
            assert ids_about(reader, f"generation-{number}") == [f"event-{number:05d}"]

    compactor = threading.Thread(target=keep_compacting)
    compactor.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write_and_look, range(1, 5)))
    finally:
        done.set()
        compactor.join()
        writer.close()


def test_the_ids_about_an_answer_are_known_until_compaction_erases_them(log):
    reader = LogReader(log)
    writer = LogWriter(log, files=QuickFiles())
    for row in (generation(1), make_row(1), make_row(2)):
        writer.submit(row).result(LONG_S)
    assert reader.ids_about("generation-1") == ["event-00001", "generation-1"]
    writer.submit(tombstone("generation-1", name="generation")).result(LONG_S)
    assert reader.about("generation-1") == []
    assert reader.ids_about("generation-1") == ["event-00001", "generation-1"]
    writer.close()
    compact(log, QuickFiles())
    assert reader.ids_about("generation-1") == ["generation-1"]
