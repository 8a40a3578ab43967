"""What does each pure stage of a request cost on one core? No Ray, no engine, no network.

    python -m benchmarks.stages [--repeats 2000] [--json OUT]

Each stage runs on the same seeded input; the first tenth of the repeats is thrown away. Prints p50 and p95 in
microseconds. These cores run in every request: compile, guard (per delta), judge, render, sign, verify, log row.
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from deployments.controls.catalogue import load_catalogue
from deployments.controls.compiler import CallerSampling, compile_controls
from deployments.controls.request import ControlsRequest, resolve
from deployments.feedback.events import generation_row
from deployments.feedback.tokens import SigningKey, TokenClaims, sign, verify
from deployments.formatter.renderers import render
from deployments.generator.simulated_prose import Prose
from deployments.validator.guard import StreamGuard
from deployments.validator.policy import judge, load_policy
from graph.contracts import CheckContext, FormatJob, Message
from graph.settings import PROJECT_ROOT

WORDS = 200


def stages(rng: random.Random) -> dict[str, Callable[[], Any]]:
    """One call each, over one answer of about ``WORDS`` words."""
    catalogue = load_catalogue(PROJECT_ROOT / "configs/controls.yaml")
    policy = load_policy(PROJECT_ROOT / "configs/quality.yaml")
    messages = (Message("system", "You are a patient teacher of physics."), Message("user", "Why is the sky blue?"))
    asked = ControlsRequest(lp={"depth": 70, "creativity": 20, "technicality": 90}, ls={"format": "steps"})
    prose = Prose(rng)
    text = ""
    while len(text.split()) < WORDS:
        text = f"{text} {prose.sentence()}".lstrip()
    pieces = [word + " " for word in text.split(" ")]
    context = CheckContext(prompt=messages[1].content, system=messages[0].content, known_text=messages[1].content)
    key = SigningKey("bench", b"k" * 32)
    claims = TokenClaims("0" * 36, "public", "model", None, None, "0" * 16, 2**31)
    token = sign(claims, key)

    def compile_once() -> Any:
        resolved = resolve(catalogue, asked, ())
        return compile_controls(resolved, catalogue, messages, CallerSampling(), max_context=2048)

    receipt = compile_once().receipt

    def guard_per_delta() -> Any:
        guard = StreamGuard(context, policy)
        for piece in pieces:
            guard.feed(piece)
        return guard.flush()

    return {
        "resolve and compile controls": compile_once,
        f"guard, {len(pieces)} deltas": guard_per_delta,
        f"judge, {WORDS} words": lambda: judge(text, context, policy),
        "render markdown": lambda: render(FormatJob(text, "markdown", "markdown")),
        "render html": lambda: render(FormatJob(text, "markdown", "html")),
        "sign feedback token": lambda: sign(claims, key),
        "verify feedback token": lambda: verify(token, {"bench": key.secret}, 0.0),
        "build log row": lambda: generation_row(
            generation_id="0" * 36,
            tenant="public",
            model="model",
            prompt=[{"role": "user", "content": "Why is the sky blue?"}],
            answer=text,
            outcome="pass",
            now_us=1,
            controls=receipt,
        ),
    }


def measure(stage: Callable[[], Any], repeats: int) -> dict[str, float]:
    """p50 and p95 in microseconds over ``repeats`` calls, the first tenth discarded."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        stage()
        times.append((time.perf_counter() - began) * 1e6)
    kept = sorted(times[repeats // 10 :])
    return {"p50_us": round(statistics.median(kept), 1), "p95_us": round(kept[int(0.95 * (len(kept) - 1))], 1)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stages", description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures, versions and machine here")
    options = parser.parse_args()
    figures = {name: measure(stage, options.repeats) for name, stage in stages(random.Random(options.seed)).items()}
    if options.json:
        record = {
            "benchmark": "stages",
            "configuration": {"repeats": options.repeats, "seed": options.seed, "words": WORDS},
            "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
            "versions": {"rheostat": version("rheostat")},
            "figures": figures,
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    table = Table(title="cost of each pure stage, one core")
    for column in ("stage", "p50 us", "p95 us"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name, times in figures.items():
        table.add_row(name, f"{times['p50_us']:.0f}", f"{times['p95_us']:.0f}")
    Console(width=100).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
