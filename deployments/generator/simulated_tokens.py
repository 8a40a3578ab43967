"""The simulated engine's tokens: word pieces of at most six letters, each with the space before it, about 1.4 to
an English word. Real tokenizers come close enough for limits and timings to behave alike."""

import math
import random
import re
from collections.abc import Iterable
from typing import Any

from deployments.generator.simulated_prose import Prose
from graph.contracts import Message

_TOKEN = re.compile(r"\s*(?:\w{1,6}|[^\w\s])|\s+")
CHARACTERS_PER_TOKEN = 4


def split_tokens(text: str) -> list[str]:
    """The tokens of ``text``; joined, they are ``text`` again."""
    return _TOKEN.findall(text)


def count_prompt_tokens(messages: Iterable[Message]) -> int:
    """A quarter of the characters, rounded up; at least 1, as a chat template never gives an empty prompt."""
    return max(1, math.ceil(sum(len(message.content) for message in messages) / CHARACTERS_PER_TOKEN))


def logprob_entry(token: str, top: int, rng: random.Random) -> dict[str, Any]:
    """OpenAI's ``logprobs.content`` entry; lists the ``top`` likeliest tokens (>= 0), the chosen one first."""
    chance = rng.uniform(0.3, 0.99)
    ranked = [_shown(token, chance)]
    others = Prose.all_words()
    at = rng.randrange(len(others))
    while len(ranked) < top:
        other = " " + others[(at + len(ranked)) % len(others)]
        chance = (1 - chance) * 0.5 if len(ranked) == 1 else chance * 0.5
        chance = min(chance, math.exp(ranked[-1]["logprob"]))
        ranked.append(_shown(other if other != token else other.upper(), chance))
    return {**ranked[0], "top_logprobs": ranked[:top]}


def _shown(token: str, chance: float) -> dict[str, Any]:
    return {"token": token, "logprob": math.log(chance), "bytes": list(token.encode(errors="replace"))}
