"""Does the log keep what it has acknowledged, whatever happens to process, disk and power?

    python -m benchmarks.durability [kill|power|bitrot|faults|all] [--kills 1000] [--states 10000] [--flips 10000]
                                    [--seed 1] [--scratch DIR] [--json OUT]

Prints a table an experiment; see the module of each for what it does. The exit status is 1 if any promise was broken.
``kill`` and ``faults`` work in the usual temporary directory (TMPDIR), which should be on a disk; ``power`` and
``bitrot`` write many thousands of small files to ``--scratch``, which is quickest in memory.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.durability.bitrot import bitrot
from benchmarks.durability.faults import faults
from benchmarks.durability.kill import kill
from benchmarks.durability.outcome import Outcome
from benchmarks.durability.power import power
from benchmarks.durability.processes import Child, Tell, telling
from benchmarks.record import write_record

Experiment = Callable[[Callable[[int], None]], Outcome]
"""Gets who is told of its progress: how many steps were done since the last time."""
_REFRESH_S = 0.2
_LONGEST_LIST = 20


def main(argv: Sequence[str] | None = None) -> int:
    options = _parse(argv)
    experiments: dict[str, tuple[int | None, Experiment]] = {
        "kill": (options.kills, lambda tell: kill(options.kills, options.seed, tell)),
        "faults": (None, faults),
        "power": (options.states, lambda tell: power(options.states, options.seed, options.scratch, on_state=tell)),
        "bitrot": (options.flips, lambda tell: bitrot(options.flips, options.seed, options.scratch, on_flip=tell)),
    }
    chosen = experiments if options.experiment == "all" else {options.experiment: experiments[options.experiment]}
    outcomes = {name: _run(name, steps, work) for name, (steps, work) in chosen.items()}
    if options.json:
        configuration = {name: getattr(options, name) for name in ("experiment", "kills", "states", "flips", "seed")}
        figures = {name: asdict(outcome) for name, outcome in outcomes.items()}
        write_record(options.json, "durability", configuration, figures, ("pyarrow", "duckdb"))
    console = Console(width=150)
    for outcome in outcomes.values():
        _print(outcome, console)
    return 1 if any(outcome.broken for outcome in outcomes.values()) else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m benchmarks.durability", description=__doc__.split("\n")[0])
    parser.add_argument("experiment", nargs="?", default="all", choices=("kill", "power", "bitrot", "faults", "all"))
    parser.add_argument("--kills", type=int, default=1000, help="writer processes to be killed")
    parser.add_argument("--states", type=int, default=10_000, help="distinct states of the disk to be checked")
    parser.add_argument("--flips", type=int, default=10_000, help="damaged places to be read")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scratch", type=Path, help="directory for power and bitrot, best one in memory")
    parser.add_argument("--json", type=Path, help="write the figures, versions and machine here")
    return parser.parse_args(argv)


def _run(name: str, steps: int | None, work: Experiment) -> Outcome:
    """Run one experiment in a process of its own, which has no threads, and draw its progress in this one."""

    def tell_progress(tell: Tell) -> None:
        telling(partial(work, lambda done: tell(f"done {done}")))(tell)

    child = Child(tell_progress)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # It draws when it is told to, not in a thread: the next experiment is forked from here.
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as progress:
        task = progress.add_task(name, total=steps)
        seen = 0
        while child.running:
            child.listen(time.monotonic() + _REFRESH_S)
            done = sum(int(line.removeprefix("done ")) for line in child.lines[seen:] if line.startswith("done "))
            seen = len(child.lines)
            progress.update(task, advance=done, refresh=True)
    outcome: Outcome = child.result()
    return outcome


def _print(outcome: Outcome, console: Console) -> None:
    first, *more = outcome.rows
    table = Table(title=f"{outcome.experiment}, {outcome.seconds:.0f} s", show_header=bool(more))
    if more:
        for name, value in first.items():
            table.add_column(name, justify="left" if isinstance(value, str) else "right")
        for row in outcome.rows:
            table.add_row(*map(_cell, row.values()))
    else:  # one row is easier to read as a column
        table.add_column()
        table.add_column(justify="right")
        for name, value in first.items():
            table.add_row(name, _cell(value))
    console.print(table)
    for line in outcome.broken[:_LONGEST_LIST]:
        console.print(f"BROKEN {line}", markup=False, highlight=False)
    if not outcome.broken:
        console.print("nothing was broken")


def _cell(value: str | int | float) -> str:
    return value if isinstance(value, str) else f"{value:,}"


if __name__ == "__main__":
    sys.exit(main())
