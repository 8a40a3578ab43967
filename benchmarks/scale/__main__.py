"""Does throughput grow with the replicas, up to 8 of them, on one Ray node and on two?

    python -m benchmarks.scale [--replicas 1 2 4 8] [--nodes 1 2] [--seconds 10] [--json OUT] [--plot DIR]

Generator replicas on simulated engines that have places for 8 answers each, at 50 tokens a second: what they could give
together is known. More users than there are places, so that none is ever free. Two nodes are two Ray nodes on this
machine, each with half of the replicas. All share its cores, so what is below the ideal is the graph's own cost.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.contestants.process import Server, end_on_signals
from benchmarks.contestants.rheostat import MODEL
from benchmarks.graph.loads import TOKENS, Load, measure
from benchmarks.record import write_record
from benchmarks.rounds import Row, figure
from benchmarks.scale.second_node import second_node
from benchmarks.service import Running, running
from benchmarks.streams import run

PLACES = 8
"""Of each replica."""
USERS_PER_PLACE = 1.25
ENGINE = {"first_token_s": 0.02, "token_s": 0.02, "capacity": {"max_running": PLACES}}
START_TIMEOUT_S = 120.0


def ideal_tokens_per_s(replicas: int) -> float:
    """What the engines would give if every place were taken again at once."""
    answer_s = ENGINE["first_token_s"] + (TOKENS - 1) * ENGINE["token_s"]  # type: ignore[operator]
    return replicas * PLACES * TOKENS / answer_s


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--replicas", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--nodes", nargs="+", type=int, choices=(1, 2), default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warm", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures, versions and machine here")
    parser.add_argument("--plot", type=Path, help="draw the figures into this folder")
    options = parser.parse_args(argv)
    end_on_signals()
    rows = list(measure_all(options))
    if options.json:
        configuration = {
            key: getattr(options, key) for key in ("replicas", "nodes", "rounds", "seconds", "warm", "seed")
        }
        write_record(options.json, "scale", {**configuration, "engine": ENGINE}, rows, ("ray",), engine="simulated")
    if options.plot:
        from benchmarks.scale.plots import draw

        draw(rows, options.replicas, options.nodes, options.plot)
    show(rows, options.replicas, options.nodes)
    failed = sum(row["failed"] for row in rows)
    if failed:
        print(f"{failed} requests failed; the first: {next(r['first_failure'] for r in rows if r['failed'])}")
    return 1 if failed else 0


def measure_all(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row a round, number of replicas and number of nodes; smaller and larger ones take turns at being first."""
    console = Console(stderr=True, width=140)
    for number in range(options.rounds):
        for replicas in sorted(options.replicas, reverse=bool(number % 2)):
            for nodes in options.nodes:
                if replicas < nodes:
                    continue
                with started(replicas, nodes) as server:
                    load = Load(f"{replicas} replicas", round(USERS_PER_PLACE * PLACES * replicas), True)
                    found = run(measure(server, load, options.seed + number, options.warm, options.seconds))
                found["share_of_ideal"] = round(found["tokens_per_s"] / ideal_tokens_per_s(replicas), 3)
                console.print(f"round {number + 1}  {nodes} nodes  {load.name}  {found}", markup=False)
                yield {"round": number, "cell": load.name, "contestant": contestant(nodes), **found}


def contestant(nodes: int) -> str:
    return "one node" if nodes == 1 else "two nodes"


@contextlib.contextmanager
def started(replicas: int, nodes: int) -> Iterator[Server]:
    """The service with all its replicas up."""
    generator: dict[str, Any] = {
        "num_replicas": replicas,
        # Simulated engines take next to nothing: logical cores must not be what limits their number.
        "ray_actor_options": {"num_cpus": 0.01},
    }
    if nodes == 2:
        generator["max_replicas_per_node"] = -(-replicas // 2)
    user_config = {"Ingress": {"max_inflight_choices": 256}}
    engine = {"kind": "simulated", "simulated": ENGINE}
    with (
        running({"engine": engine}, user_config, deployments={"Generator": generator}) as service,
        second_node(service.pid, cpus=2) if nodes == 2 else contextlib.nullcontext() as other,
    ):
        _wait_for_replicas(service, other, replicas)
        yield Server(service.url, MODEL, service.pid, () if other is None else (other.pid,))


def _wait_for_replicas(service: Running, other: psutil.Process | None, replicas: int) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until:
        here = count_ready(service.replicas("Generator"))
        there = 0 if other is None else count_ready(other.children(recursive=True))
        if here + there == replicas and (other is None or there > 0):
            return
        time.sleep(0.5)
    raise RuntimeError(f"{here} and {there} of {replicas} replicas of Generator were up after {START_TIMEOUT_S:.0f} s")


def count_ready(processes: Sequence[psutil.Process]) -> int:
    """How many are replicas of Generator that have started: Ray adds to a process's title what it is busy with, such as
    its initialisation."""
    ready = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            ready += " ".join(process.cmdline()).strip().endswith(":Generator")
    return ready


def show(rows: Sequence[Row], replicas: Sequence[int], nodes: Sequence[int]) -> None:
    table = Table(title="scale, simulated engines: median (lowest-highest round)")
    columns = ("tokens_per_s", "share_of_ideal", "ttft_p50_ms", "gap_p99_ms", "cpu_ms_per_1000_tokens")
    for title in ("replicas", "nodes", "ideal", *(column.replace("_", " ") for column in columns)):
        table.add_column(title, justify="right")
    for count in replicas:
        for number in nodes:
            found = [figure(rows, f"{count} replicas", contestant(number), column) for column in columns]
            if found[0] is not None:
                shown = ("-" if each is None else str(each) for each in found)
                table.add_row(str(count), str(number), f"{ideal_tokens_per_s(count):,.0f}", *shown)
    Console(width=140).print(table)


if __name__ == "__main__":
    sys.exit(main())
