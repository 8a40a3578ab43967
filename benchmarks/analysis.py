"""How long does the report over a million rows take, and how much memory?

    python -m benchmarks.analysis [--events 1000000] [--tail 20000] [--runs 5] [--log DIR] [--json OUT]

Writes a seeded log (`benchmarks.synthetic_log`) by the service's own path: rows, sealed segments, compaction to
Parquet, and a live tail that is not compacted. Then runs the report (terminal, HTML and JSON) several times, each in a
fresh process, and prints wall time and peak resident memory in a table last. Counts of JSON, HTML, SQL and the
training rows must be equal; exits with 1 if they are not. With --log the log is kept there, and used if it is there.
"""

import argparse
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.record import write_record
from benchmarks.synthetic_log import SyntheticLog
from deployments.feedback.compaction import compact
from deployments.feedback.files import LocalFiles
from deployments.feedback.schema import to_batch
from deployments.feedback.segment_writer import RotationLimits, SegmentFacts, SegmentWriter, should_rotate

BATCH_ROWS = 500
MODULE = "deployments.feedback.analysis"


def write_log(root: Path, events: int, tail: int, seed: int) -> dict[str, float]:
    """Write the log and compact all but its tail; returns the seconds of both."""
    console = Console(stderr=True)
    began = time.monotonic()
    rows = SyntheticLog(events, seed).rows()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("writing the log", total=events)
        for row_count in _write(root, "history", islice(rows, events - tail)):
            progress.advance(task, row_count)
    written = time.monotonic()
    with console.status("compacting"):
        compact(root)
    compacted = time.monotonic()
    for _ in _write(root, "live", rows):
        pass
    return {"write_s": round(written - began, 2), "compact_s": round(compacted - written, 2)}


def _write(root: Path, writer: str, rows: Iterator[dict[str, Any]]) -> Iterator[int]:
    """Rows as sealed segments of one writer; yields how many each batch had."""
    segments, limits = SegmentWriter(root, writer, 1, LocalFiles()), RotationLimits()
    while batch := list(islice(rows, BATCH_ROWS)):
        segments.append(to_batch(batch))
        if should_rotate(SegmentFacts(segments.rows, segments.size_bytes, 0.0), limits, 0.0):
            segments.seal()
        yield len(batch)
    segments.seal()


def run(*arguments: str) -> tuple[float, float, bytes]:
    """Run the command line in a fresh process: seconds, peak resident MiB, and what it printed."""
    began = time.monotonic()
    command = [sys.executable, "-m", MODULE, *arguments]
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=messages)
        assert process.stdout is not None
        out = process.stdout.read()
        # Not Popen.wait: this one tells the memory, too.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            messages.seek(0)
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {messages.read().decode()}")
    return time.monotonic() - began, usage.ru_maxrss / 1024, out


def compare_counts(root: Path, folder: Path) -> dict[str, dict[str, int]]:
    """The counts that JSON, HTML, SQL and the training rows tell, by name and then by who tells it."""
    html = folder / "report.html"
    log = ("--log", str(root))
    report = json.loads(run("report", "--since", "all", "--json", "-", "--html", str(html), *log)[2])
    told = dict(re.findall(r'data-count="(\w+)" data-value="(\d+)"', html.read_text(encoding="utf-8")))
    counts = {name: {"json": report["counts"][name], "html": int(n)} for name, n in told.items()}
    views = [name for name in told if name not in ("served", "undelivered")]
    sql = " UNION ALL ".join(f"SELECT '{view}' AS name, count(*) AS n FROM {view}" for view in views)
    for row in json.loads(run("sql", sql, "--format", "json", *log)[2]):
        counts[row["name"]]["sql"] = row["n"]
    counts["joined"]["training rows"] = json.loads(run("export", "--out", str(folder), *log)[2])["rows"]
    return counts


def measure(root: Path, folder: Path, runs: int, console: Console) -> dict[str, list[float]]:
    """Wall seconds and peak MiB of each run of the report."""
    html, out = folder / "report.html", folder / "report.json"
    walls, peaks = [], []
    with console.status("reporting") as status:
        for number in range(runs):
            status.update(f"report {number + 1} of {runs}")
            wall_s, peak_mib, _ = run(
                "report", "--since", "all", "--log", str(root), "--html", str(html), "--json", str(out)
            )
            walls.append(round(wall_s, 2))
            peaks.append(round(peak_mib, 1))
    return {"wall_s": walls, "peak_mib": peaks}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.analysis", description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000, help="rows of the log, about [1000000]")
    parser.add_argument("--tail", type=int, default=20_000, help="of these, rows that are not compacted [20000]")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path, help="keep the log here; used as it is if it is there")
    parser.add_argument("--json", type=Path, help="write the figures, versions and machine here")
    options = parser.parse_args(argv)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        root = options.log or folder / "log"
        seconds: dict[str, float] = {}
        if not root.exists():
            # In a process of its own: what is started later would inherit this one's peak memory as its own.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as writer:
                seconds = writer.submit(write_log, root, options.events, options.tail, options.seed).result()
        figures = measure(root, folder, options.runs, console)
        with console.status("comparing counts"):
            counts = compare_counts(root, folder)
    equal = all(len(set(each.values())) == 1 for each in counts.values())
    if options.json:
        write_record(
            options.json,
            "analysis",
            {name: getattr(options, name) for name in ("events", "tail", "runs", "seed")},
            {**seconds, **figures, "counts": counts, "counts_equal": equal},
            packages=("duckdb", "pyarrow"),
        )
    table = Table(title=f"report over {counts['log']['json']:,} rows, {options.runs} runs, a fresh process each")
    for column in ("", "median", "worst"):
        table.add_column(column, justify="right" if column else "left")
    for name, values in figures.items():
        table.add_row(name, f"{statistics.median(values):.2f}", f"{max(values):.2f}")
    table.add_row("counts equal in JSON, HTML, SQL, training rows", "yes" if equal else "NO", "")
    Console(width=100).print(table)
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
