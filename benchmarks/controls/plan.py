"""Which requests a run sends: every slider at every level, on every prompt, with every seed. Pure.

In a sweep one slider moves and the three others stand where ``FIXED`` says, all four set by hand, so that two sweeps
differ in nothing but the slider. A prompt's seeds are the same at all levels: what differs between levels is the dial.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.controls.prompts import HELD_OUT, TUNING, Prompt, choose_prompts

SLIDERS = ("depth", "creativity", "technicality", "formality")
LEVELS = (0, 25, 50, 75, 100)
FIXED: Mapping[str, int] = {"depth": 50, "creativity": 35, "technicality": 50, "formality": 50}
"""Where a slider stands while another one moves: their defaults."""
CREATIVITY_DEPTH = 30
"""In the sweep of creativity: 73 words instead of 150, for it needs five answers a level."""
CREATIVITY_SEEDS = 5
"""Answers whose variety is measured; a quick run takes three."""
CREATIVITY_TURN_ANSWERS = 10
"""The same of one turn of a conversation, which is judged by itself and not in a mean over prompts."""
NO_CONTRACTIONS_FROM = 80
"""A level of formality that is not in the sweep: from it on no contraction may be left."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is asked."""

    prompts: tuple[Prompt, ...]
    seeds: int
    run_seed: int
    levels: tuple[int, ...] = LEVELS
    creativity_seeds: int = CREATIVITY_SEEDS
    creativity_turn_answers: int = CREATIVITY_TURN_ANSWERS
    prompt_set: str = HELD_OUT

    def seeds_of(self, knob: str) -> int:
        return max(self.seeds, self.creativity_seeds) if knob == "creativity" else self.seeds


def quick_plan(run_seed: int) -> Plan:
    """8 prompts of the tuning set, one of each kind, at 3 levels with one seed: is everything in place?"""
    return Plan(
        choose_prompts(8, TUNING),
        seeds=1,
        run_seed=run_seed,
        levels=(0, 50, 100),
        creativity_seeds=3,
        creativity_turn_answers=3,
        prompt_set=TUNING,
    )


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of a sweep and where it belongs."""

    knob: str
    level: int
    prompt: Prompt
    seed_index: int
    body: Mapping[str, Any]


def fixed_levels(knob: str) -> dict[str, int]:
    """All sliders while ``knob`` moves; its own level is put over it."""
    return {**FIXED, **({"depth": CREATIVITY_DEPTH} if knob == "creativity" else {})}


def derive_seed(run_seed: int, knob: str, prompt: Prompt, seed_index: int) -> int:
    """A request's seed, 31 bits; the level is not in it."""
    text = f"{run_seed} {knob} {prompt.index} {seed_index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1


def turns(*texts: str) -> list[dict[str, str]]:
    """A conversation in which user and assistant take turns, the user first."""
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]


def sweep(knob: str, plan: Plan) -> list[Ask]:
    """All requests of one slider's sweep."""
    return [
        _ask(knob, level, prompt, index, plan)
        for prompt in plan.prompts
        for level in plan.levels
        for index in range(plan.seeds_of(knob))
    ]


def formal_asks(plan: Plan) -> list[Ask]:
    """Formality where the last contraction must be gone, one seed a prompt."""
    return [_ask("formality", NO_CONTRACTIONS_FROM, prompt, 0, plan) for prompt in plan.prompts]


def usual_asks(plan: Plan) -> list[Ask]:
    """Creativity where an untouched request has it: what the relevance of its levels is compared with."""
    seeds = range(plan.seeds_of("creativity"))
    return [_ask("creativity", FIXED["creativity"], prompt, index, plan) for prompt in plan.prompts for index in seeds]


def _ask(knob: str, level: int, prompt: Prompt, seed_index: int, plan: Plan) -> Ask:
    body = {
        "messages": turns(prompt.question),
        "controls": {"lp": {**fixed_levels(knob), knob: level}},
        "seed": derive_seed(plan.run_seed, knob, prompt, seed_index),
    }
    return Ask(knob, level, prompt, seed_index, body)


def bodies(asks: Sequence[Ask]) -> list[Mapping[str, Any]]:
    return [ask.body for ask in asks]
