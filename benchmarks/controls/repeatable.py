"""Is the answer at creativity 0 the same every time? By the number format that the model computes in.

Greedy decoding is exact, an engine's rounding is not: how requests share a batch, and how much of a prompt was found
in the cache, decide the order of its sums. What is asked is the sweep's level 0, on a service a format; answers are
never taken from the store. Tokens a second are told beside it, for the finer format costs time.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.controls.asking import Answer, Asker
from benchmarks.controls.plan import Ask, Plan, bodies, sweep

DTYPES = ("bfloat16", "float32")
"""vLLM's ``dtype``; the first is the one of ``configs/serve/cpu.yaml``."""


def engine_args(dtype: str) -> dict[str, Any]:
    """The application's arguments for a service in that format."""
    return {"engine": {"kind": "vllm", "vllm": {"engine_args": {"dtype": dtype}}}}


def repeated_asks(plan: Plan) -> list[Ask]:
    """Every prompt at level 0 with every seed."""
    return [ask for ask in sweep("creativity", plan) if ask.level == 0]


async def ask_again(asker: Asker, plan: Plan) -> dict[str, Any]:
    """Asks, and counts the prompts that gave one text."""
    asks = repeated_asks(plan)
    began = time.perf_counter()
    answers = await asker.ask_all(bodies(asks), remember=False)
    return repeatable_figures(asks, answers, time.perf_counter() - began)


def repeatable_figures(asks: Sequence[Ask], answers: Sequence[Answer | None], took_s: float) -> dict[str, Any]:
    """Prompts whose answers were one text, of those with more than one answer; tokens a second of the whole."""
    texts: Mapping[int, list[str]] = defaultdict(list)
    for ask, answer in zip(asks, answers, strict=True):
        if answer is not None:
            texts[ask.prompt.index].append(answer.text)
    several = {prompt: each for prompt, each in texts.items() if len(each) > 1}
    tokens = sum(answer.completion_tokens for answer in answers if answer is not None)
    return {
        "prompts": len(several),
        "identical": sum(len(set(each)) == 1 for each in several.values()),
        "answers": sum(map(len, texts.values())),
        "tokens_per_s": tokens / took_s if took_s > 0 else 0.0,
    }
