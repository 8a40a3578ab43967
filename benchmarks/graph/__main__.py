"""What does the graph alone cost, all stages on, and what each of them? On an engine that only keeps time.

    python -m benchmarks.graph [--rounds 3] [--seconds 10] [--contestants ...] [--json OUT] [--plot DIR]
    python -m benchmarks.graph --stages      each stage's cost, by turning it off

Rheostat and ``ray.serve.llm``, each under HAProxy and under Ray Serve's own proxy, in turn, a few rounds. The loads:

- whole: 32 users, not streamed, an engine that takes no time;
- 64 streams, 128 streams: 50 tokens a second each; they start at once, and each asks again when it has its answer.

Each server is started anew for each load and round, so that none burns CPU while another is measured; its first
seconds are thrown away. The client is one process on the same cores. Exits with 1 when an aim is missed or a request
failed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.contestants.process import end_on_signals
from benchmarks.graph.loads import STREAMS, TOKENS, WHOLE, Load, measure
from benchmarks.graph.sides import CONTESTANTS, NO_TIME, STAGES, STREAMING, start
from benchmarks.record import write_record
from benchmarks.rounds import Aim, Row, figure, ratio
from benchmarks.streams import run

COLUMNS = {
    "whole": ("requests_per_s", "latency_p50_ms", "latency_p99_ms", "cpu_ms_per_request"),
    "streams": (
        "tokens_per_s",
        "ttft_p50_ms",
        "gap_p99_ms",
        "close_p50_ms",
        "tokens_per_delta",
        "cpu_ms_per_1000_tokens",
    ),
}
"""What is shown; the record has more."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graph", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--stages", action="store_true", help="Rheostat alone, with each stage turned off in turn")
    parser.add_argument("--loads", nargs="+", choices=[load.name for load in (WHOLE, *STREAMS)])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="that are measured of each load")
    parser.add_argument("--warm", type=float, default=5.0, help="seconds before them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures, versions and machine here")
    parser.add_argument("--plot", type=Path, help="draw the figures into this folder")
    options = parser.parse_args(argv)
    end_on_signals()
    names = list(STAGES) if options.stages else options.contestants
    wanted = options.loads or (["whole", "64 streams"] if options.stages else [load.name for load in (WHOLE, *STREAMS)])
    loads = [load for load in (WHOLE, *STREAMS) if load.name in wanted]
    rows = measure_all(names, loads, options)
    aims = [] if options.stages else aims_of(rows)
    if options.json:
        write_record(
            options.json,
            "graph-stages" if options.stages else "graph",
            {key: getattr(options, key) for key in ("rounds", "seconds", "warm", "seed")}
            | {"tokens": TOKENS, "whole_engine": NO_TIME, "streaming_engine": STREAMING},
            rows,
            ("ray", "uvloop", "httptools"),
            engine="simulated",
            aims=[dict(zip(("what", "reached", "bound", "met"), aim.row(), strict=True)) for aim in aims],
        )
    if options.plot:
        from benchmarks.graph.plots import draw

        draw(rows, options.plot)
    show(rows, names, loads, aims)
    failed = sum(row["failed"] for row in rows)
    if failed:
        print(f"{failed} requests failed; the first: {next(r['first_failure'] for r in rows if r['failed'])}")
    return 1 if failed or any(aim.is_met is False for aim in aims) else 0


def measure_all(names: Sequence[str], loads: Sequence[Load], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Round by round, each server in turn; those with the same pace share a start."""
    rows: list[dict[str, Any]] = []
    console = Console(stderr=True, width=140)
    for number in range(options.rounds):
        for pace, same in (
            (NO_TIME, [x for x in loads if not x.streamed]),
            (STREAMING, [x for x in loads if x.streamed]),
        ):
            for name in names if same else ():
                with start(name, pace) as server:
                    for load in same:
                        seed = options.seed + number
                        found = run(measure(server, load, seed, options.warm, options.seconds))
                        rows.append({"round": number, "cell": load.name, "contestant": name, **found})
                        console.print(f"round {number + 1}  {name}  {load.name}  {found}", markup=False)
    return rows


def aims_of(rows: Sequence[Row]) -> list[Aim]:
    """What issue 7 asks of the graph alone."""

    def own(cell: str, name: str) -> float | None:
        found = figure(rows, cell, "rheostat", name)
        return None if found is None else found.median

    def against(cell: str, one: str, other: str, name: str) -> float | None:
        found = ratio(rows, cell, one, other, name)
        return None if found is None else found.median

    aims = [
        Aim("whole: requests/s", own("whole", "requests_per_s"), 300),
        Aim(
            "whole: requests/s over ray.serve.llm's default",
            against("whole", "rheostat", "ray-default", "requests_per_s"),
            3,
        ),
        Aim("64 streams: tokens/s", own("64 streams", "tokens_per_s"), 3100),
        Aim("64 streams: TTFT p50, ms", own("64 streams", "ttft_p50_ms"), 40, at_least=False),
        Aim("64 streams: gap p99, ms", own("64 streams", "gap_p99_ms"), 60, at_least=False),
        Aim("128 streams: tokens/s", own("128 streams", "tokens_per_s"), 5000),
    ]
    for one, other, proxy in (("rheostat", "ray-haproxy", "HAProxy"), ("rheostat-plain", "ray-default", "its proxy")):
        for load in STREAMS:
            found = against(load.name, one, other, "tokens_per_s")
            aims.append(Aim(f"{load.name}: tokens/s over ray.serve.llm, both under {proxy}", found, 1.5))
    return aims


def show(rows: Sequence[Row], names: Sequence[str], loads: Sequence[Load], aims: Sequence[Aim]) -> None:
    console = Console(width=140)
    for load in loads:
        columns = COLUMNS["streams" if load.streamed else "whole"]
        table = Table(title=f"{load.name}, simulated engine: median (lowest-highest round)")
        table.add_column("")
        for column in columns:
            table.add_column(column.replace("_", " "), justify="right")
        for name in names:
            found = [figure(rows, load.name, name, column) for column in columns]
            table.add_row(name, *("-" if each is None else str(each) for each in found))
        console.print(table)
    if aims:
        table = Table(title="aims")
        for column in ("what", "reached", "bound", ""):
            table.add_column(column, justify="left" if column in ("what", "") else "right")
        for aim in aims:
            table.add_row(*aim.row())
        console.print(table)


if __name__ == "__main__":
    sys.exit(main())
