"""What a run consists of: each part asks what it needs and gives its figures.

A part that reads another's answers (cross-talk reads the sweeps) asks for them again and finds them in the store.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from benchmarks.controls.asking import Asker
from benchmarks.controls.conversations import CONVERSATIONS
from benchmarks.controls.crosstalk import crosstalk
from benchmarks.controls.embeddings import Embedder
from benchmarks.controls.figures import Point
from benchmarks.controls.immediacy import answers_needed, hold, immediacy_figures, make_pairs
from benchmarks.controls.plan import SLIDERS, Ask, Plan, bodies, formal_asks, sweep, usual_asks
from benchmarks.controls.prefix import ARMS, hold_all, prefix_figures, requests_needed
from benchmarks.controls.samples import YARDSTICKS, Sample, make_samples, points_by_prompt, variety_by_prompt
from benchmarks.controls.sliders import (
    Figures,
    creativity_figures,
    depth_figures,
    formality_figures,
    technicality_figures,
)
from benchmarks.controls.switches import FORMS, form_asks, form_figures


@dataclass(slots=True)
class Bench:
    """What every part works with."""

    asker: Asker
    plan: Plan
    embedder: Embedder
    start: Callable[[str, int], None] = lambda what, total: None
    """Told of a part's name and how many answers it needs."""
    sweeps: dict[str, list[Sample]] = field(default_factory=dict)
    """Samples by slider, as far as they were asked for."""

    async def samples(self, what: str, asks: list[Ask]) -> list[Sample]:
        """The answered ones of ``asks``."""
        self.start(what, len(asks))
        return make_samples(asks, await self.asker.ask_all(bodies(asks)))

    async def sweep(self, knob: str) -> list[Sample]:
        """A slider's sweep; asked once."""
        if knob not in self.sweeps:
            self.sweeps[knob] = await self.samples(knob, sweep(knob, self.plan))
        return self.sweeps[knob]

    def figures(self, knob: str, figures: Figures) -> Figures:
        """With how many answers its sweep asked for."""
        return {"asked": len(sweep(knob, self.plan)), **figures}


Part = Callable[[Bench], Awaitable[Figures]]


async def _depth(bench: Bench) -> Figures:
    samples = await bench.sweep("depth")
    return bench.figures("depth", depth_figures(samples, bench.embedder, bench.plan.run_seed))


async def _creativity(bench: Bench) -> Figures:
    samples = await bench.sweep("creativity")
    usual = await bench.samples("creativity, as untouched", usual_asks(bench.plan))
    return bench.figures("creativity", creativity_figures(samples, bench.embedder, bench.plan.run_seed, usual))


async def _technicality(bench: Bench) -> Figures:
    samples = await bench.sweep("technicality")
    return bench.figures("technicality", technicality_figures(samples, bench.embedder, bench.plan.run_seed))


async def _formality(bench: Bench) -> Figures:
    samples = await bench.sweep("formality")
    formal = await bench.samples("formality, no contractions", formal_asks(bench.plan))
    return bench.figures("formality", formality_figures(samples, bench.embedder, bench.plan.run_seed, formal))


async def _forms(bench: Bench) -> Figures:
    figures = {}
    for name in FORMS:
        asks = form_asks(name, bench.plan)
        bench.start(name, len(asks))
        figures[name] = form_figures(name, asks, await bench.asker.ask_all(bodies(asks)))
    return figures


async def _crosstalk(bench: Bench) -> Figures:
    points: dict[str, dict[str, list[Point]]] = {}
    for knob in SLIDERS:
        samples = await bench.sweep(knob)
        groups = {name: points_by_prompt(samples, name) for name in YARDSTICKS if name != "variety"}
        groups["variety"] = variety_by_prompt(samples, bench.embedder)
        points[knob] = {name: list(itertools.chain(*by_prompt.values())) for name, by_prompt in groups.items()}
    sliders = bench.asker.facts.sliders
    return crosstalk(points, {name: sliders[name].get("moves_with") or {} for name in SLIDERS if name in sliders})


async def _immediacy(bench: Bench) -> Figures:
    figures = {}
    for knob in SLIDERS:
        pairs = make_pairs(knob, bench.plan)
        bench.start(f"immediacy, {knob}", answers_needed(pairs, bench.plan))
        held = await asyncio.gather(*(hold(bench.asker, pair, bench.plan) for pair in pairs))
        figures[knob] = immediacy_figures(knob, held, bench.embedder)
    return {"sliders": figures}


async def _prefix(bench: Bench) -> Figures:
    # A quick run needs to see that it works, not how far conversations differ.
    chosen = CONVERSATIONS[: 1 if bench.plan.seeds == 1 else None]
    bench.start("prefix cache", len(ARMS) * sum(map(requests_needed, chosen)))
    return prefix_figures(await hold_all(bench.asker, len(chosen), bench.plan.run_seed))


PARTS: dict[str, Part] = {
    "depth": _depth,
    "creativity": _creativity,
    "technicality": _technicality,
    "formality": _formality,
    "crosstalk": _crosstalk,
    "forms": _forms,
    "immediacy": _immediacy,
    "prefix": _prefix,
}
"""In the order in which they run."""
