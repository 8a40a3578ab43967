"""``python -m training cycle``: from the log to a promoted adapter, by the other commands, one after the other."""

import argparse
import io
import json
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.table import Table

from training.commands.gate import NOT_PASSED

HELP = "curate, train, gate and promote: from the log to an adapter that answers"
EVAL_SHARE = 0.4
"""More than `curate`'s own: a first few hundred rows must also teach the judge, and leave prompts for the gate."""
STEPS = 24
"""Enough for a small model to take up a clear preference: docs/learning.md."""
_FOLDERS = {"log": "log", "datasets": "datasets", "runs": "runs", "registry": "registry"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command. What else a step takes, its own command takes."""
    parser.add_argument("--data", type=Path, default=Path("data"), metavar="DIR", help="data_dir of the service")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the running service")
    parser.add_argument("--key-env", default=None, metavar="NAME", help="variable with the key of an admin tenant")
    parser.add_argument("--since", default="all", metavar="WHEN", help="feedback from then on: all, 7d, 2026-01-31")
    parser.add_argument("--until", default=None, metavar="WHEN", help="feedback before then")
    parser.add_argument("--tenant", default=None, help="feedback of this tenant only")
    parser.add_argument("--method", choices=("auto", "sft", "dpo", "kto"), default="auto", help="auto: by the rows")
    parser.add_argument("--parent", default="base", metavar="ADAPTER", help="go on from this adapter; champion")
    parser.add_argument("--model", type=Path, default=None, metavar="DIR", help="model that is served [the packaged]")
    parser.add_argument(
        "--calibration", type=Path, default=None, metavar="FILE", help="of that model, as in its settings"
    )
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help="optimizer steps")
    parser.add_argument("--batch-size", type=int, default=None, metavar="N", help="rows a step [the trainer's]")
    parser.add_argument("--learning-rate", type=float, default=None, metavar="X", help="at its highest [the method's]")
    parser.add_argument("--eval-share", type=float, default=EVAL_SHARE, metavar="X", help="of prompts, held out")
    parser.add_argument("--limit", type=int, default=200, metavar="N", help="the most prompts that the gate asks")
    parser.add_argument("--judge", choices=("feedback", "score"), default="feedback", help="who decides at the gate")
    parser.add_argument("--seed", type=int, default=0, help="of all steps")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="of Ray Data and Ray Train; 0: none")
    parser.add_argument("--use-gpu", action="store_true", help="a GPU for each worker of the training")
    parser.add_argument(
        "--canary", type=float, default=None, metavar="SHARE", help="give it this share of the traffic; none: promote"
    )
    parser.add_argument("--timeout", type=float, default=60.0, metavar="S", help="how long to wait for all replicas")


def run(options: argparse.Namespace, messages: Console) -> None:
    """Do it, print a JSON line of what each step said; exits with the gate's status if it did not pass.

    Raises:
        As the commands that it is made of.
    """
    steps: dict[str, dict[str, Any]] = {}
    seconds: dict[str, float] = {}

    def step(name: str, *arguments: object) -> dict[str, Any]:
        began = time.monotonic()
        steps[name] = _run_command(name, [str(each) for each in arguments], messages)
        seconds[name] = round(time.monotonic() - began, 1)
        return steps[name]

    place = {name: options.data / folder for name, folder in _FOLDERS.items()}
    period = ["--since", options.since, *_given("--until", options.until), *_given("--tenant", options.tenant)]
    curated = step(
        "curate",
        *("--log", place["log"], "--out", place["datasets"], *period),
        *("--eval-share", options.eval_share, "--seed", options.seed, "--workers", options.workers),
    )
    trained = step(
        "train",
        *("--dataset", curated["dataset"], "--datasets", place["datasets"], "--log", place["log"]),
        *("--runs", place["runs"], "--registry", place["registry"], *_given("--model", options.model)),
        *("--method", options.method, "--parent", options.parent, "--steps", options.steps, "--seed", options.seed),
        *("--workers", options.workers, *(["--use-gpu"] if options.use_gpu else [])),
        *_given("--batch-size", options.batch_size),
        *_given("--learning-rate", options.learning_rate),
        *_given("--calibration", options.calibration),
    )
    try:
        step(
            "gate",
            *("--adapter", trained["adapter"], "--datasets", place["datasets"], "--registry", place["registry"]),
            *("--log", place["log"], "--url", options.url, *_given("--key-env", options.key_env)),
            *("--judge", options.judge, "--limit", options.limit, "--seed", options.seed),
            *_given("--tenant", options.tenant),
        )
    finally:
        if not steps.get("gate", {}).get("passed"):
            _tell(steps, seconds, messages)
    if not steps["gate"]["passed"]:
        raise SystemExit(NOT_PASSED)
    change = ("--registry", place["registry"], "--timeout", options.timeout, "--reason", "cycle")
    if options.canary is None:
        step("promote", trained["adapter"], *change)
    else:
        step("canary", trained["adapter"], "--share", options.canary, *change)
    _tell(steps, seconds, messages)


def _run_command(name: str, arguments: Sequence[str], messages: Console) -> dict[str, Any]:
    """What a command says on its standard output; a gate that did not pass is no failure here."""
    messages.print(Rule(f"python -m training {name}", align="left"))
    module: ModuleType = import_module(f"training.commands.{name}")
    parser = argparse.ArgumentParser(prog=f"python -m training {name}")
    module.add_arguments(parser)
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            module.run(parser.parse_args(list(arguments)), messages)
    except SystemExit as ended:
        if ended.code != NOT_PASSED:
            raise
    told: dict[str, Any] = json.loads(said.getvalue().splitlines()[-1])
    return told


def _tell(steps: dict[str, dict[str, Any]], seconds: dict[str, float], messages: Console) -> None:
    table = Table("step", "seconds", title="cycle", title_justify="left")
    for name, spent in seconds.items():
        table.add_row(name, f"{spent:.1f}")
    messages.print(table)
    print(json.dumps({"steps": steps, "seconds": seconds, "total_seconds": round(sum(seconds.values()), 1)}))
    sys.stdout.flush()


def _given(flag: str, value: object) -> list[object]:
    return [] if value is None else [flag, value]
