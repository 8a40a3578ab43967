"""What do the levers on the logits cost a step of the engine? At batch 1, 8 and 32, on one core. No engine.

    python -m benchmarks.levers [--repeats 200] [--json OUT]

The token tables are those of the packaged model's tokenizer (``make model``). Each lever bends a batch of seeded
logits in which every request uses it; ``none`` is a batch in which none does. The sides are interleaved and the first
tenth of the repeats is thrown away. Prints p50 in microseconds a step.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer

from benchmarks.record import write_record
from deployments.controls.catalogue import load_catalogue
from deployments.controls.logits.engine_tables import CONFIG_KEY, load_tables
from deployments.controls.logits.shaping import Levers, States, Tables, bend, read_repeats
from deployments.generator.model_store import resolve_model
from graph.contracts import LogitsPlan
from graph.settings import PROJECT_ROOT

BATCHES = (1, 8, 32)
ANSWER_TOKENS = 100
PLANS = {
    "length": LogitsPlan(target_tokens=200, connect=True),
    "rarity": LogitsPlan(rarity=0.5, anchor=1.0),
    "stops": LogitsPlan(stops=2.0),
    "casual": LogitsPlan(casual=-25.0),
    "all": LogitsPlan(target_tokens=200, connect=True, rarity=0.5, anchor=1.0, stops=2.0, casual=-25.0),
}


def load() -> tuple[Tables, int]:
    """The packaged model's token tables and the size of its vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(None))
    size = len(tokenizer)
    words = list(load_catalogue(PROJECT_ROOT / "configs/controls.yaml").casual_words)
    config = SimpleNamespace(
        model_config=SimpleNamespace(get_vocab_size=lambda: size, try_get_generation_config=dict),
        additional_config={CONFIG_KEY: {"casual_words": words}},
    )
    return load_tables(config, tokenizer, torch.device("cpu")), size


def step(plan: LogitsPlan, batch: int, tables: Tables, size: int, seed: int) -> Callable[[], Any]:
    """One step's work of the levers for a batch of answers of ``ANSWER_TOKENS`` tokens."""
    random = torch.Generator().manual_seed(seed)
    logits_BV = torch.randn(batch, size, generator=random) * 3
    tokens_BL = torch.randint(size, (batch, ANSWER_TOKENS), generator=random)
    levers = Levers.of([plan] * batch, logits_BV.device)
    number = torch.full((batch,), ANSWER_TOKENS)
    no = torch.zeros(batch, dtype=torch.bool)
    states = States(number, no, no, no, no, no, number // 10, number // 2, number * -0.25)
    spared = (torch.arange(batch).repeat_interleave(8), torch.randint(size, (batch * 8,), generator=random))
    repeats = read_repeats(tokens_BL, number)
    kept = repeats[2] > 0
    found = (repeats[0][kept], repeats[1][kept], repeats[2][kept])
    return lambda: bend(logits_BV, slice(None), levers, states, tables, spared, found)


def measure(repeats: int, seed: int) -> dict[str, dict[str, float]]:
    """p50 in microseconds by lever and batch size."""
    tables, size = load()
    torch.set_num_threads(1)
    idle: list[int] = []
    sides: dict[tuple[str, int], Callable[[], Any]] = {("none", batch): lambda: bool(idle) for batch in BATCHES}
    sides |= {(name, batch): step(plan, batch, tables, size, seed) for name, plan in PLANS.items() for batch in BATCHES}
    times: dict[tuple[str, int], list[float]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side, work in sides.items():
            began = time.perf_counter()
            work()
            times[side].append((time.perf_counter() - began) * 1e6)
    return {
        name: {str(batch): round(statistics.median(times[name, batch][repeats // 10 :]), 1) for batch in BATCHES}
        for name in ("none", *PLANS)
    }


def main() -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m benchmarks.levers", description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures, versions and machine here")
    options = parser.parse_args()
    figures = measure(options.repeats, options.seed)
    if options.json:
        configuration = {"repeats": options.repeats, "seed": options.seed, "answer_tokens": ANSWER_TOKENS, "threads": 1}
        write_record(options.json, "levers", configuration, figures, ("torch", "wordfreq"))
    table = Table(title="levers: microseconds a step, p50, one core, vocabulary of the packaged model")
    table.add_column("lever")
    for batch in BATCHES:
        table.add_column(f"batch {batch}", justify="right")
    for name, by_batch in figures.items():
        table.add_row(name, *(f"{value:.0f}" for value in by_batch.values()))
    Console(width=100).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
