"""Carries a run out: brings a service up, asks what the parts need, and takes it down again."""

import asyncio
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.controls.ablations import ARMS, Arm, ablation_plan, summarise, write_stripped
from benchmarks.controls.asking import Asker, Facts, Store, connect, read_facts
from benchmarks.controls.code_version import code_version
from benchmarks.controls.embeddings import Embedder
from benchmarks.controls.parts import PARTS, Bench
from benchmarks.controls.plan import Plan
from benchmarks.controls.progress import Meter
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


def measure(plan: Plan, parts: Sequence[str], options: Options, meter: Meter) -> Measured:
    """The figures of ``parts``, on one service.

    Raises:
        httpx.ConnectError: There is none at ``options.url``.
    """
    embedder = _embedder(options)
    measured = _on_service(options.url, None, plan, parts, options, meter, embedder)
    embedder.save()
    return measured


def measure_ablations(plan: Plan, options: Options, meter: Meter) -> Measured:
    """The sweeps of each arm of the ablations, each on a service of its own; figures by arm and slider."""
    embedder = _embedder(options)
    figures: dict[str, Any] = {}
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="rheostat-ablations-") as folder:
        for arm in ARMS:
            catalogue = write_stripped(CATALOGUE, arm, Path(folder))
            measured = _on_service(None, catalogue, ablation_plan(plan), arm.knobs, options, meter, embedder, arm)
            figures[arm.name] = {knob: summarise(knob, measured.figures[knob]) for knob in arm.knobs}
            failures += measured.failures
            embedder.save()
    return Measured(measured.facts, figures, failures)


def _embedder(options: Options) -> Embedder:
    return Embedder(options.work / "embeddings.npz")


def _on_service(
    url: str | None,
    controls_file: Path | None,
    plan: Plan,
    parts: Sequence[str],
    options: Options,
    meter: Meter,
    embedder: Embedder,
    arm: Arm | None = None,
) -> Measured:
    prefix = f"{arm.name}: " if arm else ""
    if url is None:
        meter.start(f"{prefix}starting the service", 1)
    with service_url(url, controls_file) as at:
        if url is None:
            meter.tell(0)
        return asyncio.run(_ask_parts(at, plan, parts, options, meter, embedder, prefix))


async def _ask_parts(
    url: str, plan: Plan, parts: Sequence[str], options: Options, meter: Meter, embedder: Embedder, prefix: str
) -> Measured:
    async with connect(url, options.concurrency) as client:
        facts = await read_facts(client)
        name = re.sub(r"[^A-Za-z0-9._-]", "-", facts.model)
        store = Store(options.work / f"{name}.jsonl", options.code, options.any_code)
        asker = Asker(client, facts, store, options.concurrency, meter.tell)
        bench = Bench(asker, plan, embedder, lambda what, total: meter.start(prefix + what, total))
        figures = {name: await PARTS[name](bench) for name in parts}
    return Measured(facts, figures, asker.failures)
