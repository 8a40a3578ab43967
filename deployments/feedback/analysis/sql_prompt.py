"""The `sql` subcommand: one statement, or a small prompt, over the views. Nothing can be written.

Only statements that read are run, and the connection itself has no access to other files (see `views`).
"""

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any, Literal

import duckdb
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deployments.feedback.analysis.views import VIEWS
from graph.errors import InvalidRequest

Format = Literal["table", "csv", "json"]
SHOWN_ROWS = 40
"""Of a table in the terminal; csv and json have all."""
_READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
_CHUNK_ROWS = 1000
_HELP = """\
.views          the views and what they mean
.schema VIEW    columns of a view
.quit           leave
Everything else is SQL, up to a semicolon, for example:
  SELECT model, count(*) AS n, avg(approved::INT) AS up, wilson_low(count(*) FILTER (approved), n) AS low
  FROM thumbs GROUP BY model;"""


def run_statement(con: duckdb.DuckDBPyConnection, sql: str, form: Format, out: IO[str]) -> None:
    """Run statements and write their rows.

    Raises:
        InvalidRequest: One of them would do more than read.
        duckdb.Error: As DuckDB says it.
    """
    for statement in con.extract_statements(sql):
        if statement.type not in _READING:
            raise InvalidRequest(
                f"Only SELECT and EXPLAIN are run here; got {statement.type.name}. The service alone writes the log."
            )
        relation = con.execute(statement)
        _WRITERS[form]([column[0] for column in relation.description], _rows(relation), out)


def run_prompt(con: duckdb.DuckDBPyConnection, form: Format, console: Console) -> None:
    """Read statements from the standard input until it ends; at a terminal, prompt for them and survive mistakes."""
    if not sys.stdin.isatty():
        run_statement(con, sys.stdin.read(), form, sys.stdout)
        return
    _enable_line_editing()
    console.print(
        "Views over the feedback log, read only. [bold].help[/] helps, [bold].quit[/] leaves.", highlight=False
    )
    while (text := _read_statement()) is not None:
        try:
            if text.startswith("."):
                _run_command(con, text.rstrip(";"), console)
            elif text:
                run_statement(con, text, form, sys.stdout)
        except EOFError:
            return
        except (duckdb.Error, InvalidRequest) as error:
            console.print(f"[red]{type(error).__name__}[/]", end=": ")
            console.print(str(error), markup=False, highlight=False)
        except KeyboardInterrupt:
            console.print("interrupted")


def list_views(console: Console) -> None:
    """Print each view and its meaning."""
    table = Table("view", "what it holds")
    for name, meaning in VIEWS.items():
        table.add_row(name, meaning)
    table.add_row("contracts", "Metrics: kind, range, which way is better, unit.")
    console.print(table)


def _run_command(con: duckdb.DuckDBPyConnection, text: str, console: Console) -> None:
    command, _, argument = text.partition(" ")
    match command:
        case ".views":
            list_views(console)
        case ".schema" if argument.strip() in VIEWS:
            run_statement(
                con, f"SELECT column_name, column_type FROM (DESCRIBE {argument.strip()})", "table", sys.stdout
            )
        case ".schema":
            raise InvalidRequest(f"{argument.strip()!r} is no view; allowed: {', '.join(VIEWS)}.")
        case ".quit" | ".exit":
            raise EOFError
        case _:
            console.print(_HELP, markup=False, highlight=False)


def _read_statement() -> str | None:
    """Lines up to a semicolon, or one line that begins with a dot; None at the end of the input."""
    lines: list[str] = []
    while True:
        try:
            line = input("      -> " if lines else "feedback> ").strip()
        except EOFError:
            return None
        except KeyboardInterrupt:
            print(file=sys.stderr)
            lines.clear()
            continue
        lines.append(line)
        if line.endswith(";") or (len(lines) == 1 and (line.startswith(".") or not line)):
            return " ".join(lines).strip()


def _enable_line_editing() -> None:
    with suppress(ImportError):  # not on every build of Python
        import readline  # noqa: F401 - its import gives input() history and cursor keys


def _rows(relation: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while chunk := relation.fetchmany(_CHUNK_ROWS):
        yield from chunk


def _write_table(names: list[str], rows: Iterator[tuple[Any, ...]], out: IO[str]) -> None:
    table, note = Table(*names), ""
    for number, row in enumerate(rows):
        if number == SHOWN_ROWS:
            note = f"the first {SHOWN_ROWS} rows; --format csv has all\n"
            break
        # Texts of users are no markup.
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    Console(file=out).print(table)
    out.write(note)


def _write_csv(names: list[str], rows: Iterator[tuple[Any, ...]], out: IO[str]) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)


def _write_json(names: list[str], rows: Iterator[tuple[Any, ...]], out: IO[str]) -> None:
    """A list with one object a row, a line each."""
    out.write("[")
    for number, row in enumerate(rows):
        out.write(",\n " if number else "\n ")
        out.write(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False, default=str))
    out.write("\n]\n")


_WRITERS = {"table": _write_table, "csv": _write_csv, "json": _write_json}
