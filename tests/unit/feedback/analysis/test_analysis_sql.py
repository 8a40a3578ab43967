import csv
import io
import json

import pytest
from analysis_support import LogBuilder
from rich.console import Console

from deployments.feedback.analysis import sql_prompt
from deployments.feedback.analysis.sql_prompt import run_prompt, run_statement
from deployments.feedback.analysis.views import VIEWS
from graph.errors import InvalidRequest


@pytest.fixture
def con(tmp_path):
    log = LogBuilder(tmp_path / "log")
    log.answer("g1", answer='[bold]a, "b"\nc[/bold]')
    log.thumb("g1")
    with log.open() as con:
        yield con


def run(con, sql, form="json"):
    out = io.StringIO()
    run_statement(con, sql, form, out)
    return out.getvalue()


def prompt(con, monkeypatch, *lines):
    """What the messages say, with the user typing these lines and then leaving."""
    typed = iter(lines)

    def read(_prompt):
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr(sql_prompt.sys.stdin, "isatty", lambda: True, raising=False)
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        run_prompt(con, "csv", console)
    return capture.get()


def test_json_has_an_object_a_row(con):
    assert json.loads(run(con, "SELECT kind, value_bool AS up, text FROM signals")) == [
        {"kind": "thumb", "up": True, "text": None}
    ]
    assert json.loads(run(con, "SELECT 1 AS a WHERE false")) == []
    assert json.loads(run(con, "SELECT sum(1::HUGEINT) AS a, DATE '2026-01-02' AS d, 0.5::DECIMAL(3, 1) AS x")) == [
        {"a": 1, "d": "2026-01-02", "x": "0.5"}
    ]


def test_csv_is_read_back_as_it_was(con):
    rows = list(csv.reader(io.StringIO(run(con, "SELECT generation_id, answer FROM generations", "csv"))))
    assert rows == [["generation_id", "answer"], ["g1", '[bold]a, "b"\nc[/bold]']]


def test_a_table_shows_texts_as_they_are_and_says_when_it_is_cut(con):
    assert "[bold]a" in run(con, "SELECT answer FROM generations", "table")
    assert "the first 40 rows" in run(con, "FROM range(100)", "table")


@pytest.mark.parametrize(
    "sql",
    ["DROP TABLE internal.feedback", "UPDATE internal.feedback SET kind = 'x'", "CREATE TABLE t (a INT)", "SET threads = 9",
     "COPY (SELECT 1) TO 'x.csv'", "ATTACH 'x.db'", "CALL pragma_version()", "SELECT 1; DROP VIEW log"],
)  # fmt: skip
def test_only_reading_statements_are_run(con, sql):
    with pytest.raises(InvalidRequest, match="Only SELECT and EXPLAIN"):
        run(con, sql)
    assert json.loads(run(con, "SELECT count(*) AS n FROM log")) == [{"n": 2}]


@pytest.mark.parametrize("sql", ["SHOW TABLES", "DESCRIBE log", "SUMMARIZE thumbs", "EXPLAIN SELECT 1", "FROM log", ""])
def test_every_way_of_reading_is_allowed(con, sql):
    run(con, sql)


def test_the_prompt_survives_mistakes_and_ends_with_the_input(con, monkeypatch, capsys):
    told = prompt(con, monkeypatch, "SELECT nonsense;", "DROP VIEW log;", "SELECT count(*) AS n", "FROM log;")
    assert "BinderException" in told
    assert "Only SELECT" in told
    assert capsys.readouterr().out == "n\n2\n"


def test_the_prompt_knows_its_views(con, monkeypatch, capsys):
    told = prompt(con, monkeypatch, ".views", ".schema thumbs", ".schema nothing", ".help", "", ".quit", "SELECT 1;")
    for view, meaning in VIEWS.items():
        assert view in told
        assert meaning in told
    assert "'nothing' is no view" in told
    out = capsys.readouterr().out
    assert "approved" in out
    assert "\n1\n" not in out


def test_statements_may_come_by_the_standard_input(con, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT 1 AS a;\nSELECT 2 AS b;\n"))
    run_prompt(con, "csv", Console())
    assert capsys.readouterr().out == "a\n1\nb\n2\n"
