import hashlib
import random

import pyarrow.parquet as pq
import pytest
from analysis_support import CONTRACTS, LogBuilder, ids

from deployments.feedback.analysis import training_rows
from deployments.feedback.analysis.period import Scope
from deployments.feedback.analysis.training_rows import EXPORT_SCHEMA, write_training_rows
from deployments.feedback.analysis.views import open_views
from deployments.feedback.compaction import compact
from deployments.feedback.snapshot import open_snapshot


@pytest.fixture
def log(tmp_path):
    return LogBuilder(tmp_path / "log")


def rows_of(log, folder, scope=None):
    with log.open() as con:
        written = write_training_rows(con, folder, scope)
    rows = pq.read_table(written.path).to_pylist()
    assert len(rows) == written.rows
    return rows


def test_a_training_row_is_a_signal_beside_its_answer(log, tmp_path):
    log.answer("g1", controls={"lp": {}}, adapter="v1", failed_checks=["language"])
    up = log.thumb("g1", text="good", tags={"page": "1"})
    (row,) = rows_of(log, tmp_path / "out")
    signal = next(each for each in log.rows if each["event_id"] == up)
    assert {name: row[name] for name in ("event_id", "row_crc", "kind", "value_bool", "text", "source_id", "tags")} == {
        name: signal[name] for name in ("event_id", "row_crc", "kind", "value_bool", "text", "source_id", "tags")
    }
    assert (row["prompt"], row["answer"], row["controls"]) == (log.rows[0]["prompt"], "Answer g1.", '{"lp":{}}')
    assert (row["adapter"], row["failed_checks"], row["served"]) == ("v1", '["language"]', True)


def test_the_supersede_that_gave_the_value_is_named_for_lineage(log, tmp_path):
    log.answer("g1")
    up = log.thumb("g1", up=True)
    new = log.supersede(up, value_bool=False)
    (row,) = rows_of(log, tmp_path)
    assert (row["event_id"], row["value_bool"], row["value_event_id"], row["text_event_id"]) == (up, False, new, up)


def test_a_preference_brings_the_other_answer_of_its_tenant_along(log, tmp_path):
    log.answer("g1")
    log.answer("g2", answer="The other.")
    log.answer("g3", answer="Not theirs.", tenant="globex")
    log.say("preference", "g1", other_generation_id="g2", value_str="this")
    log.say("preference", "g1", other_generation_id="g3", value_str="this", source_id="bob")
    assert [row["other_answer"] for row in rows_of(log, tmp_path)] == ["The other.", None]


def test_orphans_retracted_and_replaced_signals_are_no_training_rows(log, tmp_path):
    log.answer("g1")
    log.thumb("lost")
    log.retract(log.thumb("g1", source_id="bob"))
    log.thumb("g1")
    last = log.thumb("g1")
    assert [row["event_id"] for row in rows_of(log, tmp_path)] == [last]


def test_no_signal_makes_an_empty_file_with_its_schema(log, tmp_path):
    assert rows_of(log, tmp_path) == []
    assert pq.read_schema(tmp_path / "training-rows.parquet").equals(EXPORT_SCHEMA)


def test_equal_logs_give_equal_bytes_whether_compacted_or_not(log, tmp_path):
    other = LogBuilder(tmp_path / "other")
    for builder in (log, other):
        for number in range(40):
            builder.answer(f"g{number}")
            builder.thumb(f"g{number}", event_id=f"event {number * 7 % 40}")
        builder.write()
    compact(other.root)
    files = []
    for number, (builder, threads) in enumerate(((log, 1), (log, 2), (other, 2))):
        with open_views(open_snapshot(builder.root), CONTRACTS, threads=threads) as con:
            files.append(write_training_rows(con, tmp_path / f"out{number}").path.read_bytes())
    assert files[0] == files[1] == files[2]


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 40])
def test_rows_are_sorted_whatever_the_number_of_buckets_and_groups(log, tmp_path, monkeypatch, rows):
    monkeypatch.setattr(training_rows, "GROUP_ROWS", 4)
    monkeypatch.setattr(training_rows, "_BOUNDS", training_rows._BOUNDS.replace(str(training_rows.BUCKET_ROWS), "8"))
    names = [f"é{number}" for number in range(rows)]
    random.Random(1).shuffle(names)
    for name in names:
        log.answer(f"g {name}")
        log.thumb(f"g {name}", event_id=name)
    with log.open() as con:
        expected = sorted(ids(con, "joined"))
        written = write_training_rows(con, tmp_path / "out")
    table = pq.ParquetFile(written.path)
    assert table.read().column("event_id").to_pylist() == expected
    sizes = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
    assert all(size == 4 for size in sizes[:-1])
    assert sum(sizes) == rows
    assert written.sha256 == hashlib.sha256(written.path.read_bytes()).hexdigest()


def test_a_period_and_a_tenant_choose_the_rows(log, tmp_path):
    log.answer("g1")
    log.answer("g2", tenant="globex")
    log.thumb("g1", ts_server_us=5)
    later = log.thumb("g1", ts_server_us=10, source_id="bob")
    theirs = log.thumb("g2", ts_server_us=10, tenant="globex")
    assert [row["event_id"] for row in rows_of(log, tmp_path, Scope(since_us=6))] == sorted([later, theirs])
    assert [row["event_id"] for row in rows_of(log, tmp_path, Scope(tenant="globex"))] == [theirs]


def test_a_file_that_cannot_be_finished_leaves_the_old_one_and_no_litter(log, tmp_path, monkeypatch):
    log.answer("g1")
    log.thumb("g1")
    rows_of(log, tmp_path / "out")
    before = (tmp_path / "out" / "training-rows.parquet").read_bytes()

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(training_rows, "_read_sorted", fail)
    log.thumb("g1", source_id="bob")
    with log.open() as con, pytest.raises(OSError, match="no space"):
        write_training_rows(con, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["training-rows.parquet"]
    assert (tmp_path / "out" / "training-rows.parquet").read_bytes() == before
