"""What does the feedback log say?

    python -m deployments.feedback.analysis report --since 7d [--html out.html] [--json out.json]
    python -m deployments.feedback.analysis sql ["SELECT ..."] [--format table|csv|json]
    python -m deployments.feedback.analysis export --out DIR

Data goes to the standard output, all else to the standard error. Exit status: 0 done, 1 failed, 2 wrong usage.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]
from rich.console import Console

from deployments.feedback.analysis.period import Scope, parse_since
from deployments.feedback.analysis.views import open_views
from deployments.feedback.contracts import load_contracts
from deployments.feedback.snapshot import Snapshot, open_snapshot
from graph.errors import InvalidRequest, NotFound, RheostatError

_ATTEMPTS = 3
"""Compaction may remove a file of the archive while it is read."""
_CONTRACTS = Path(__file__).resolve().parents[3] / "configs" / "metrics.yaml"
_Result = TypeVar("_Result")


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    messages = Console(stderr=True)
    try:
        _COMMANDS[options.command](options, messages)
    except BrokenPipeError:
        return _leave_broken_pipe()
    except RheostatError as error:
        messages.print(error.message, style="red", markup=False, highlight=False)
        return 2 if isinstance(error, InvalidRequest) else 1
    except (OSError, duckdb.Error) as error:
        messages.print(f"{type(error).__name__}: {error}", style="red", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        messages.print("interrupted")
        return 1
    return 0


def _report(options: argparse.Namespace, messages: Console) -> None:
    from deployments.feedback.analysis.html import render_html
    from deployments.feedback.analysis.report import make_report
    from deployments.feedback.analysis.terminal import print_report

    now_us = time.time_ns() // 1000
    scope = _scope(options, now_us)
    baseline_us = parse_since(options.baseline, now_us) if options.baseline else None
    if options.baseline and (scope.since_us is None or (baseline_us or 0) >= scope.since_us):
        raise InvalidRequest(
            "--baseline must begin before --since, such as --since 7d --baseline 28d.", param="baseline"
        )
    with messages.status("reading the log") as status:
        report = _with_views(
            options,
            lambda con, snapshot: make_report(
                con,
                snapshot,
                scope.since_us,
                until_us=scope.until_us,
                tenant=scope.tenant,
                baseline_us=baseline_us,
                now_us=now_us,
                on_step=lambda step: status.update(step),
            ),
        )
        if options.html:
            status.update("drawing")
            Path(options.html).write_text(render_html(report), encoding="utf-8")
    text = json.dumps(report, ensure_ascii=False, allow_nan=False, indent=1) + "\n" if options.json else ""
    if options.json == "-":
        sys.stdout.write(text)
        return
    if options.json:
        Path(options.json).write_text(text, encoding="utf-8")
    print_report(report, Console())
    for path in filter(None, (options.html, options.json)):
        messages.print(f"written: {path}", markup=False, highlight=False)


def _sql(options: argparse.Namespace, messages: Console) -> None:
    from deployments.feedback.analysis.sql_prompt import run_prompt, run_statement

    def run(con: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> None:
        for problem in snapshot.problems:
            messages.print(problem, style="yellow", markup=False, highlight=False)
        if options.statement:
            run_statement(con, options.statement, options.format, sys.stdout)
        else:
            run_prompt(con, options.format, messages)

    # Not repeated when a file goes: rows may have been printed already.
    _with_views(options, run, attempts=1)


def _export(options: argparse.Namespace, messages: Console) -> None:
    from deployments.feedback.analysis.training_rows import write_training_rows

    scope = _scope(options, time.time_ns() // 1000)
    with messages.status("writing training rows"):
        written = _with_views(options, lambda con, snapshot: write_training_rows(con, Path(options.out), scope))
    told = {"path": str(written.path), "rows": written.rows, "size_bytes": written.size_bytes, "sha256": written.sha256}
    print(json.dumps(told))


_COMMANDS: dict[str, Callable[[argparse.Namespace, Console], None]] = {
    "report": _report,
    "sql": _sql,
    "export": _export,
}


def _with_views(
    options: argparse.Namespace,
    work: Callable[[duckdb.DuckDBPyConnection, Snapshot], _Result],
    attempts: int = _ATTEMPTS,
) -> _Result:
    """Do the work on a fresh snapshot, and once more on a new one if a file of it went meanwhile."""
    if not options.log.is_dir():
        raise NotFound(
            f"There is no log at {options.log}. Serve an answer first, or name the log's folder: --log data/log."
        )
    contracts = load_contracts(options.metrics)
    while True:
        attempts -= 1
        snapshot = open_snapshot(options.log)
        # What reading segments left behind; DuckDB has memory of its own.
        pa.default_memory_pool().release_unused()
        try:
            with open_views(snapshot, contracts) as con:
                return work(con, snapshot)
        except duckdb.Error:
            if not attempts or all(path.exists() for path in snapshot.parquet):
                raise


def _scope(options: argparse.Namespace, now_us: int) -> Scope:
    until_us = parse_since(options.until, now_us) if options.until else None
    return Scope(parse_since(options.since, now_us), until_us, options.tenant)


def _leave_broken_pipe() -> int:
    # Whoever read us has enough; the interpreter's last flush must not complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deployments.feedback.analysis", description="What does the feedback log say?"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    log = argparse.ArgumentParser(add_help=False)
    log.add_argument("--log", type=Path, default=Path("data/log"), metavar="DIR", help="root of the log [data/log]")
    log.add_argument("--metrics", type=Path, default=_CONTRACTS, metavar="FILE", help="metric contracts")
    scope = argparse.ArgumentParser(add_help=False)
    scope.add_argument("--until", metavar="WHEN", help="rows before this date or span before now")
    scope.add_argument("--tenant", help="rows of this tenant only")
    since = "all, a span such as 24h, 7d or 2w, or a date such as 2026-01-31"

    report = commands.add_parser("report", parents=[log, scope], help="print the report, and write it")
    report.add_argument("--since", default="7d", metavar="WHEN", help=f"{since} [7d]")
    report.add_argument("--baseline", metavar="WHEN", help="compare with what lies between WHEN and --since, for drift")
    report.add_argument("--html", metavar="OUT", help="write one self-contained page")
    report.add_argument(
        "--json", metavar="OUT", help="write all numbers; - is the standard output, instead of the tables"
    )
    sql = commands.add_parser("sql", parents=[log], help="query the views")
    sql.add_argument("statement", nargs="?", help="one SELECT; without it a prompt, or the standard input")
    sql.add_argument("--format", choices=("table", "csv", "json"), default="table")
    export = commands.add_parser("export", parents=[log, scope], help="write the training rows as Parquet")
    export.add_argument("--out", required=True, metavar="DIR", help="where training-rows.parquet is written")
    export.add_argument("--since", default="all", metavar="WHEN", help=f"{since} [all]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
