import json
import random
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feedback_support import QuickFiles, make_row, make_rows

from deployments.feedback import archive, parquet_files
from deployments.feedback.archive import (
    ArchiveManifest,
    archive_manifest_path,
    held_by_archive,
    parquet_path,
    read_archive_manifest,
    read_columns,
    unreferenced_files,
    verify_archive,
    write_archive_manifest,
    write_parquet,
)
from deployments.feedback.parquet_files import encode_parquet, find_in_parquet
from deployments.feedback.schema import ARROW_SCHEMA, is_intact, to_batch
from graph.errors import InternalError


@pytest.fixture
def log(tmp_path):
    (tmp_path / "log" / "archive").mkdir(parents=True)
    return tmp_path / "log"


def write_rows(log, rows, name="events-1-0.parquet"):
    return write_parquet(log, name, pa.Table.from_batches([to_batch(rows)]), QuickFiles())


def write_archive(log, *row_groups):
    files = tuple(write_rows(log, rows, f"events-1-{number}.parquet") for number, rows in enumerate(row_groups))
    manifest = ArchiveManifest(1, files, ("writer=w/epoch=1/seg-000000.arrows",))
    write_archive_manifest(log, manifest, QuickFiles())
    return manifest


def test_a_log_without_an_archive_has_version_0_and_no_files(tmp_path):
    assert read_archive_manifest(tmp_path / "none") == ArchiveManifest(0, (), ())


def test_a_manifest_is_read_back_as_it_was_written(log):
    manifest = write_archive(log, make_rows(range(5)), make_rows(range(5, 9)))
    assert read_archive_manifest(log) == manifest
    assert manifest.rows == 9
    assert (manifest.files[1].min_event_id, manifest.files[1].max_event_id) == ("event-00005", "event-00008")


def test_no_flip_of_a_bit_in_the_manifest_goes_unseen(log):
    manifest = write_archive(log, make_rows(range(3)))
    path = archive_manifest_path(log)
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in (0, 3, 6):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            path.write_bytes(flipped)
            with suppress(InternalError):
                assert read_archive_manifest(log) == manifest, at  # white space between tokens says nothing


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"\xff", b'{"format": 1}', b'{"files": 3, "sha256": "0"}'])
def test_what_is_no_manifest_is_refused_and_the_way_out_is_told(log, text):
    archive_manifest_path(log).write_bytes(text)
    with pytest.raises(InternalError, match="Restore it"):
        read_archive_manifest(log)


def test_a_manifest_of_a_later_format_asks_for_an_upgrade(log, monkeypatch):
    with monkeypatch.context() as later:
        later.setattr(archive, "FORMAT", 2)
        write_archive(log, make_rows([1]))
    with pytest.raises(InternalError, match="upgrade"):
        read_archive_manifest(log)


def test_rows_outlive_parquet_with_their_checksums(log):
    rows = [make_row(1, value_num=0.1, tags={"é": "ü"}), make_row(2, value_num=-0.0, text=""), make_row(3, text=None)]
    (file,) = write_archive(log, rows).files
    back = read_columns(log, file, None).to_pylist()
    assert back == rows
    assert all(map(is_intact, back))


def test_the_schema_is_the_logs_with_what_must_not_be_null(log):
    (file,) = write_archive(log, make_rows(range(3))).files
    assert pq.read_schema(parquet_path(log, file)).equals(ARROW_SCHEMA)


def test_damage_of_a_file_is_told_by_the_verification(log):
    (file,) = write_archive(log, make_rows(range(100))).files
    assert verify_archive(log) == ()
    path = parquet_path(log, file)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(flipped) // 2] ^= 1
    path.write_bytes(flipped)
    assert "sha256" in verify_archive(log)[0]
    path.write_bytes(whole[:-1])
    assert "bytes" in verify_archive(log)[0]
    path.unlink()
    assert "missing" in verify_archive(log)[0]


def test_no_flip_of_a_bit_escapes_the_verification_and_most_are_refused_on_reading(log):
    (file,) = write_archive(log, make_rows(range(100))).files
    path = parquet_path(log, file)
    whole = path.read_bytes()
    random_bits = random.Random(3)
    refused = 0
    for _ in range(100):
        flipped = bytearray(whole)
        flipped[random_bits.randrange(len(whole))] ^= 1 << random_bits.randrange(8)
        path.write_bytes(flipped)
        assert len(verify_archive(log)) == 1
        try:
            read_columns(log, file, None)
        except InternalError:
            refused += 1
    assert refused > 50  # the checksums of pages cover neither their heads nor the footer


def test_which_ids_the_archive_holds(log):
    files = write_archive(log, make_rows(range(0, 100)), make_rows(range(200, 300))).files
    ids = pa.array([row["event_id"] for row in make_rows([0, 99, 100, 150, 250, 299, 300])])
    assert held_by_archive(log, files, ids).to_pylist() == [True, True, False, False, True, True, False]
    assert held_by_archive(log, files, ids[:0]).to_pylist() == []
    assert held_by_archive(log, (), ids).to_pylist() == [False] * 7


def test_only_files_whose_range_is_touched_are_read(log):
    files = write_archive(log, make_rows(range(0, 9)), make_rows(range(20, 29))).files
    parquet_path(log, files[0]).unlink()
    assert held_by_archive(log, files, pa.array(["event-00022", "event-00030"])).to_pylist() == [True, False]
    with pytest.raises(FileNotFoundError):
        held_by_archive(log, files, pa.array(["event-00003"]))


def test_ids_too_long_for_statistics_are_found_all_the_same(log):
    long_id = "z" * 5000
    (file,) = write_archive(log, [make_row(1), make_row(2, event_id=long_id)]).files
    assert held_by_archive(log, [file], pa.array([long_id, "a", "zz"])).to_pylist() == [True, False, False]
    (found,) = find_in_parquet(parquet_path(log, file), ["event_id"], long_id)
    assert found.column("text").to_pylist() == [make_row(2)["text"]]


def test_rows_are_found_by_any_of_several_columns(log):
    rows = [make_row(1), make_row(2, other_generation_id="generation-1"), make_row(3)]
    (file,) = write_archive(log, rows).files
    found = pa.concat_tables(
        find_in_parquet(parquet_path(log, file), ["generation_id", "other_generation_id"], "generation-1")
    )
    assert found.column("event_id").to_pylist() == ["event-00001", "event-00002"]
    assert list(find_in_parquet(parquet_path(log, file), ["generation_id"], "generation-9")) == []


def test_long_texts_make_for_groups_of_fewer_rows(log, monkeypatch):
    rows = [make_row(number, text="x" * 1000) for number in range(64)]
    monkeypatch.setattr(parquet_files, "ROW_GROUP_BYTES", 16_000)
    data = encode_parquet(pa.Table.from_batches([to_batch(rows)]))
    assert 4 <= pq.ParquetFile(pa.BufferReader(data)).num_row_groups <= 10


def test_what_the_manifest_does_not_name_is_none_of_the_archive(log):
    manifest = write_archive(log, make_rows(range(3)))
    directory = log / "archive"
    for name in ("events-2-0.parquet", "events-1-0.parquet.tmp", "manifest.json.tmp", "compaction.lock", "notes.txt"):
        (directory / name).write_text("")
    names = ["events-1-0.parquet.tmp", "events-2-0.parquet", "manifest.json.tmp"]
    assert unreferenced_files(log, manifest) == [directory / name for name in names]
    assert unreferenced_files(log / "none", manifest) == []
    assert json.loads(archive_manifest_path(log).read_bytes())["version"] == 1
