"""The command line, and the one promise that matters most: four readers, equal counts."""

import json
import re
import sys

import duckdb
import pyarrow.parquet as pq
import pytest
from analysis_support import HOUR_US, NOW_US, LogBuilder

from deployments.feedback.analysis import __main__ as command
from deployments.feedback.compaction import compact


@pytest.fixture
def log(tmp_path):
    return LogBuilder(tmp_path / "log")


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")  # a message is not broken inside a path, however long that of the tests is

    def run(*arguments):
        try:
            status = command.main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code
        captured = capsys.readouterr()
        return status, captured.out, " ".join(captured.err.split())

    return run


def everything_that_can_happen(log):
    """Retries, retracts, supersedes, tombstones, undelivered answers, orphans, and a tenant who meddles."""
    for number in range(12):
        log.answer(f"g{number}", tenant="acme" if number < 9 else "globex")
    thumbs = [log.thumb(f"g{number}", up=number % 2 == 0, source_id="ann") for number in range(9)]
    log.thumb("g0", up=False, source_id="ann")
    log.retract(thumbs[1])
    log.retract(thumbs[2], tenant="globex")
    log.supersede(thumbs[3], value_bool=True, text="after all")
    log.supersede(thumbs[4], value_bool=False, tenant="globex")
    log.thumb("g5", tenant="globex")
    log.thumb("g10", tenant="globex")
    log.thumb("lost")
    log.say("rating", "g6", value_num=4.0)
    log.say("comment", "g6", text="one")
    log.say("comment", "g6", text="two")
    log.say("implicit", "g7", name="copied", source_type="implicit")
    log.say("preference", "g7", other_generation_id="g8", value_str="this")
    log.say("undelivered", "g8", source_type=None)
    log.erase(thumbs[5])
    log.erase("g6", name="generation")
    log.repeat(thumbs[0])
    log.repeat("g0")
    return log


@pytest.mark.parametrize("state", ["live", "archived", "half and half"])
def test_report_html_sql_and_training_rows_count_alike(log, run, tmp_path, state):
    everything_that_can_happen(log)
    log.write()
    if state != "live":
        compact(log.root)
    if state == "half and half":
        log.thumb("g7", source_id="late")
        log.retract("event-0013")
        log.write()
    html, where = tmp_path / "out.html", ("--log", log.root)
    status, out, _ = run("report", "--since", "all", "--json", "-", "--html", html, *where)
    assert status == 0
    report = json.loads(out)["counts"]
    told = {name: int(n) for name, n in re.findall(r'data-count="(\w+)" data-value="(\d+)"', html.read_text())}
    assert told == {name: report[name] for name in told}
    views = [name for name in told if name not in ("served", "undelivered")]
    query = " UNION ALL ".join(f"SELECT '{view}' AS view, count(*) AS n FROM {view}" for view in views)
    _, out, _ = run("sql", query, "--format", "json", *where)
    assert {row["view"]: row["n"] for row in json.loads(out)} == {view: report[view] for view in views}
    _, out, _ = run("sql", "SELECT event_id FROM joined ORDER BY 1", "--format", "json", *where)
    used = [row["event_id"] for row in json.loads(out)]
    _, out, _ = run("export", "--out", tmp_path / "rows", *where)
    assert json.loads(out)["rows"] == report["joined"] == len(used) > 5
    assert pq.read_table(tmp_path / "rows" / "training-rows.parquet").column("event_id").to_pylist() == used
    status, out, _ = run("report", "--since", "all", *where)
    shown = " ".join(out.split())
    assert all(f"{name} {n:,}" in shown for name, n in told.items())


def test_data_goes_to_the_standard_output_and_messages_do_not(log, run, tmp_path):
    log.answer("g1")
    log.write()
    status, out, err = run("report", "--since", "all", "--log", log.root, "--html", tmp_path / "a.html")
    assert (status, "a.html" in out, "written:" in err) == (0, False, True)
    status, out, err = run("report", "--since", "all", "--log", log.root, "--json", "-")
    assert json.loads(out)["counts"]["generations"] == 1


def test_a_report_may_begin_at_any_time_and_be_of_one_tenant(log, run, monkeypatch):
    monkeypatch.setattr(command.time, "time_ns", lambda: NOW_US * 1000)
    log.answer("old", ts_server_us=NOW_US - 30 * 24 * HOUR_US)
    log.answer("new", ts_server_us=NOW_US - HOUR_US)
    log.answer("other", ts_server_us=NOW_US - HOUR_US, tenant="globex")
    log.write()

    def served(*options):
        return json.loads(run("report", "--log", log.root, "--json", "-", *options)[1])["counts"]["served"]

    assert served() == served("--since", "7d") == 2
    assert served("--since", "all") == 3
    assert served("--since", "2025-05-01") == 3
    assert served("--since", "7d", "--tenant", "globex") == 1
    assert served("--since", "all", "--until", "7d") == 1
    assert served("--since", "3600s") == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["report", "--since", "yesterday"], "'yesterday' is no period; allowed: all"),
        (["sql", "DROP VIEW log"], "Only SELECT and EXPLAIN"),
        (["report", "--nonsense"], "unrecognized arguments"),
        (["report", "--since", "all", "--baseline", "7d"], "--baseline must begin before --since"),
        (["report", "--since", "7d", "--baseline", "24h"], "--baseline must begin before --since"),
        ([], "required"),
    ],
)
def test_wrong_usage_is_told_and_ends_with_2(log, run, arguments, says):
    log.answer("g1")
    log.write()
    status, out, err = run(*arguments, *(["--log", log.root] if arguments else []))
    assert (status, out) == (2, "")
    assert says in err


@pytest.mark.parametrize("arguments", [["report"], ["sql", "SELECT 1"], ["export", "--out", "x"]])
def test_a_log_that_is_not_there_is_told_with_the_next_step(run, tmp_path, arguments):
    status, out, err = run(*arguments, "--log", tmp_path / "nothing")
    assert (status, out) == (1, "")
    assert "There is no log at" in err
    assert "--log data/log" in err


def test_an_error_of_sql_or_of_the_disk_is_one_line_and_ends_with_1(log, run, tmp_path):
    log.answer("g1")
    log.write()
    status, _, err = run("sql", "SELECT nonsense FROM log", "--log", log.root)
    assert (status, "nonsense" in err, "Traceback" in err) == (1, True, False)
    status, _, err = run("report", "--log", log.root, "--html", tmp_path / "no" / "folder.html")
    assert (status, "folder.html" in err) == (1, True)


def test_metrics_that_cannot_be_read_are_told(log, run, tmp_path):
    log.write().mkdir(exist_ok=True)
    (tmp_path / "metrics.yaml").write_text("version: 2\n")
    status, _, err = run("report", "--log", log.root, "--metrics", tmp_path / "metrics.yaml")
    assert (status, "metrics.yaml:1" in err) == (1, True)


def test_a_log_may_be_named_by_a_path_from_here(log, run, monkeypatch):
    log.answer("g1")
    compact(log.write())
    monkeypatch.chdir(log.root.parent)
    status, out, _ = run("sql", "SELECT count(*) AS n FROM log", "--format", "csv", "--log", "log")
    assert (status, out) == (0, "n\n1\n")


def test_a_file_that_compaction_removed_meanwhile_is_met_with_a_new_snapshot(log, run, monkeypatch):
    log.answer("g1")
    compact(log.write())
    opened = []

    def open_then_lose_a_file(root):
        if opened:
            moved.rename(opened[0].parquet[0])
        opened.append(real(root))
        if len(opened) == 1:
            opened[0].parquet[0].rename(moved)
        return opened[-1]

    moved = log.root / "archive" / "moved"
    real = command.open_snapshot
    monkeypatch.setattr(command, "open_snapshot", open_then_lose_a_file)
    status, out, _ = run("report", "--since", "all", "--log", log.root, "--json", "-")
    assert (status, json.loads(out)["counts"]["generations"], len(opened)) == (0, 1, 2)


def test_an_error_that_no_new_snapshot_mends_is_not_tried_again(log, run, monkeypatch):
    log.answer("g1")
    compact(log.write())
    calls = []

    def fail(*_):
        calls.append(1)
        raise duckdb.IOException("the disk is gone")

    monkeypatch.setattr(command, "open_views", fail)
    status, _, err = run("report", "--log", log.root)
    assert (status, len(calls), "the disk is gone" in err) == (1, 1, True)


def test_no_colours_where_none_are_wanted(log, run, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    log.answer("g1")
    log.write()
    assert "\x1b" not in run("report", "--since", "all", "--log", log.root)[1]


def test_a_reader_who_leaves_early_is_no_error_message(log, monkeypatch, tmp_path):
    log.answer("g1")
    log.write()

    class Closed:
        def write(self, _):
            raise BrokenPipeError

        def flush(self):
            pass

        def fileno(self):
            return (tmp_path / "sink").open("w").fileno()

    monkeypatch.setattr(command, "_leave_broken_pipe", lambda: 1)
    monkeypatch.setattr(sys, "stdout", Closed())
    assert command.main(["report", "--log", str(log.root), "--json", "-"]) == 1
