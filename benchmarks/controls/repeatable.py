"""Is the answer at creativity 0 the same every time, and does it cost speed? With ``batch_invariant`` and without.

Greedy decoding is exact, an engine's sums are not: how requests share a batch, and how much of a prompt was found in
the cache, decide their order. What is asked is the sweep's level 0, all at once, and then some prompts once more, each
alone; on a service a side, and never taken from the store. Tokens a second are those of the crowd.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.controls.asking import Answer, Asker
from benchmarks.controls.plan import Ask, Plan, bodies, sweep

SIDES: Mapping[str, bool] = {"batch_invariant: true": True, "batch_invariant: false": False}
"""Of ``engine.vllm``; the first is what ``configs/serve/cpu.yaml`` says."""
ALONE = 8
"""Prompts that are asked alone, one seed each: one of each kind."""


def engine_args(batch_invariant: bool) -> dict[str, Any]:
    """The application's arguments for a side's service."""
    return {"engine": {"kind": "vllm", "vllm": {"batch_invariant": batch_invariant}}}


def repeated_asks(plan: Plan) -> list[Ask]:
    """Every prompt at level 0 with every seed."""
    return [ask for ask in sweep("creativity", plan) if ask.level == 0]


def alone_asks(plan: Plan) -> list[Ask]:
    """Those of them that are asked alone."""
    return [ask for ask in repeated_asks(plan) if ask.seed_index == 0][:ALONE]


async def ask_again(asker: Asker, plan: Plan) -> dict[str, Any]:
    """Asks, and counts the prompts that gave one text."""
    asks = repeated_asks(plan)
    began = time.perf_counter()
    answers = await asker.ask_all(bodies(asks), remember=False)
    took_s = time.perf_counter() - began
    alone = {ask.prompt.index: await asker.ask(ask.body, remember=False) for ask in alone_asks(plan)}
    return repeatable_figures(asks, answers, alone, took_s)


def repeatable_figures(
    asks: Sequence[Ask], answers: Sequence[Answer | None], alone: Mapping[int, Answer | None], took_s: float
) -> dict[str, Any]:
    """Prompts whose answers were one text, in the crowd and alone as in the crowd; tokens a second of the crowd.

    Args:
        alone: The answer of each prompt, by its index, that was asked alone.
    """
    texts: Mapping[int, list[str]] = defaultdict(list)
    for ask, answer in zip(asks, answers, strict=True):
        if answer is not None:
            texts[ask.prompt.index].append(answer.text)
    several = {prompt: each for prompt, each in texts.items() if len(each) > 1}
    compared = {prompt: answer.text for prompt, answer in alone.items() if answer is not None and prompt in texts}
    tokens = sum(answer.completion_tokens for answer in answers if answer is not None)
    return {
        "prompts": len(several),
        "identical": sum(len(set(each)) == 1 for each in several.values()),
        "alone": len(compared),
        "alone_identical": sum({text} == set(texts[prompt]) for prompt, text in compared.items()),
        "answers": sum(map(len, texts.values())),
        "tokens_per_s": tokens / took_s if took_s > 0 else 0.0,
    }
