"""Carries a run out: brings a service up, asks what the parts need, and takes it down again."""

import asyncio
import re
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.controls.ablations import ARMS, ablation_plan, summarise, write_stripped
from benchmarks.controls.asking import Asker, Facts, Store, connect, read_facts
from benchmarks.controls.code_version import code_version
from benchmarks.controls.embeddings import Embedder
from benchmarks.controls.parts import PARTS, Bench
from benchmarks.controls.plan import Plan
from benchmarks.controls.progress import Meter
from benchmarks.controls.repeatable import SIDES, alone_asks, ask_again, engine_args, repeated_asks
from benchmarks.controls.serving import ANSWER_CODE, NOT_ANSWER_CODE, service_url
from graph.settings import PROJECT_ROOT

CATALOGUE = PROJECT_ROOT / "configs" / "controls.yaml"


@dataclass(frozen=True, slots=True)
class Options:
    """How a run asks, which changes no figure."""

    url: str | None
    """Of a service that runs; None: one is started."""
    work: Path
    """Folder in which answers are kept, a file a model."""
    concurrency: int
    code: str
    """Version of the code that makes answers, as it was when the run began."""
    any_code: bool
    """Take answers that were made by other code, too."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What answered, the figures of each part, and what was said where no answer came."""

    facts: Facts
    figures: dict[str, Any]
    failures: list[str]


def answer_code() -> str:
    """The version of the code that makes answers, in this checkout."""
    return code_version(PROJECT_ROOT, ANSWER_CODE, NOT_ANSWER_CODE)


@dataclass(frozen=True, slots=True)
class Side:
    """What one service is asked."""

    name: str
    """Told with its progress; empty: the service as it is."""
    changes: Mapping[str, Any]
    """To the application's arguments, of a service that is started."""
    plan: Plan
    ask: Callable[[Bench], Awaitable[dict[str, Any]]]


def measure(plan: Plan, parts: Sequence[str], options: Options, meter: Meter) -> Measured:
    """The figures of ``parts``, on one service.

    Raises:
        httpx.ConnectError: There is none at ``options.url``.
    """
    embedder = _embedder(options)
    measured = _on_service(options.url, Side("", {}, plan, partial(_parts, parts=parts)), options, meter, embedder)
    embedder.save()
    return measured


def measure_repeatable(plan: Plan, options: Options, meter: Meter) -> Measured:
    """Level 0 of creativity once more, on a service that is batch invariant and on one that is not."""

    async def again(bench: Bench) -> dict[str, Any]:
        bench.start("the same again", len(repeated_asks(plan)) + len(alone_asks(plan)))
        return await ask_again(bench.asker, plan)

    sides = [Side(name, engine_args(is_invariant), plan, again) for name, is_invariant in SIDES.items()]
    return _on_several(sides, options, meter)


def measure_ablations(plan: Plan, options: Options, meter: Meter) -> Measured:
    """The sweeps of each arm of the ablations, each on a service of its own; figures by arm and slider."""
    with tempfile.TemporaryDirectory(prefix="rheostat-ablations-") as folder:
        sides = [
            Side(
                arm.name,
                {"controls_file": str(write_stripped(CATALOGUE, arm, Path(folder)))},
                ablation_plan(plan),
                partial(_parts, parts=arm.knobs),
            )
            for arm in ARMS
        ]
        measured = _on_several(sides, options, meter)
    figures = {
        arm: {knob: summarise(knob, each) for knob, each in by_knob.items()}
        for arm, by_knob in measured.figures.items()
    }
    return replace(measured, figures=figures)


def _on_several(sides: Sequence[Side], options: Options, meter: Meter) -> Measured:
    """Each side on a service of its own, one after the other; figures by side."""
    embedder = _embedder(options)
    figures: dict[str, Any] = {}
    failures: list[str] = []
    for side in sides:
        measured = _on_service(None, side, options, meter, embedder)
        figures[side.name] = measured.figures
        failures += measured.failures
        embedder.save()
    return Measured(measured.facts, figures, failures)


def _embedder(options: Options) -> Embedder:
    return Embedder(options.work / "embeddings.npz")


async def _parts(bench: Bench, parts: Sequence[str]) -> dict[str, Any]:
    return {name: await PARTS[name](bench) for name in parts}


def _on_service(url: str | None, side: Side, options: Options, meter: Meter, embedder: Embedder) -> Measured:
    """Asks the service at ``url``, or one of our own."""
    prefix = f"{side.name}: " if side.name else ""
    if url is None:
        meter.start(f"{prefix}starting the service", 1)
    with service_url(url, side.changes) as at:
        if url is None:
            meter.tell(0)
        return asyncio.run(_ask(at, side, prefix, options, meter, embedder))


async def _ask(url: str, side: Side, prefix: str, options: Options, meter: Meter, embedder: Embedder) -> Measured:
    async with connect(url, options.concurrency) as client:
        facts = await read_facts(client)
        name = re.sub(r"[^A-Za-z0-9._-]", "-", facts.model)
        store = Store(options.work / f"{name}.jsonl", options.code, options.any_code)
        asker = Asker(client, facts, store, options.concurrency, meter.tell)
        bench = Bench(asker, side.plan, embedder, lambda what, total: meter.start(prefix + what, total))
        return Measured(facts, await side.ask(bench), asker.failures)
