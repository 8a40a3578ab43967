"""Questions for measuring speed: each one different, so that nothing is in a cache that another request did not put
there, and each good for a long answer."""

import itertools
import random
from collections.abc import Iterator
from typing import Any

SUBJECTS = (
    "a bicycle", "a bridge", "a candle", "a clock", "a compass", "a desert", "a forest", "a garden", "a glacier",
    "a library", "a market", "a mountain", "a museum", "a piano", "a pond", "a river", "a sailing boat", "a school",
    "a telescope", "a tram", "a volcano", "a water mill", "an airport", "an island", "an orchestra", "bread", "cheese",
    "chocolate", "glass", "gold", "honey", "iron", "olive oil", "paper", "rice", "salt", "silk", "soap", "tea", "wool",
)  # fmt: skip


def questions(seed: int) -> Iterator[str]:
    """In an order that ``seed`` sets, 1,560 of them; then the same ones once more, with a number."""
    pairs = list(itertools.permutations(SUBJECTS, 2))
    random.Random(seed).shuffle(pairs)
    for turn in itertools.count():
        part = f" Part {turn + 1}." if turn else ""
        for one, other in pairs:
            yield f"Explain to a friend what {one} and {other} have in common, and how they differ.{part}"


def bodies(model: str, seed: int, *, streamed: bool, tokens: int) -> Iterator[dict[str, Any]]:
    """Requests for exactly so many tokens, which mean the same work to every server that knows vLLM's fields: the
    likeliest token each time, and nothing that the server may choose by itself."""
    fixed: dict[str, Any] = {
        "model": model,
        "max_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "stream": streamed,
    }
    if streamed:
        fixed["stream_options"] = {"include_usage": True}
    for question in questions(seed):
        yield {**fixed, "messages": [{"role": "user", "content": question}]}
