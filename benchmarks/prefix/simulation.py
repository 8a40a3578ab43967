"""Replicas with prefix caches under made-up traffic, on a clock of their own: no Ray, no engine, no waiting.

A request takes the time of its tokens: those of the prompt that were not cached, and those of the answer. How many run
beside it makes it no slower. Ingress replicas take turns; each knows of a replica's load what it has under way there
itself, and what the replica told when it last took a request from it (``deployments/generator/prefix_router.py``).
"""

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.prefix.policies import Policy
from benchmarks.prefix.traffic import DIRECTIVES, Conversation
from deployments.generator.simulated_cache import BlockCache, SimulatedCache, block_hashes
from deployments.generator.simulated_tokens import CHARACTERS_PER_TOKEN, count_prompt_tokens
from deployments.ingress.prefix_key import prefix_key
from graph.contracts import Message, PrefixKey

PROMPT_TOKEN_S = 1e-4
TOKEN_S = 0.02
"""Seconds a token: about those of a 7B model on one GPU."""
WARM_UP = 0.2
"""Share of the time, the first part, in which caches fill; it is in no figure."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One turn as the service sees it."""

    key: PrefixKey
    blocks: tuple[int, ...]
    tokens: int
    answer_tokens: int
    reads_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What came out between the warm-up and the start of the last conversation. Loads as multiples of the mean over all
    replicas."""

    hits: float
    """Cached tokens, as a share of all prompts' tokens."""
    busiest: float
    """The replica with the most requests."""
    busiest_at_once: float
    """The replica with the most requests at a time, averaged over time."""
    at_once: float
    """Requests at a time at one replica, averaged over time and replicas."""


class _Router:
    """What one ingress replica knows."""

    def __init__(self, policy: Policy, replicas: int) -> None:
        self._policy = policy
        self._under_way = [0] * replicas
        self._told = [0] * replicas

    def choose(self, key: PrefixKey) -> int:
        loads = [max(own, told) for own, told in zip(self._under_way, self._told, strict=True)]
        return self._policy.choose(key, loads)

    def sent(self, at: int, load: int) -> None:
        self._under_way[at] += 1
        self._told[at] = load

    def ended(self, at: int) -> None:
        self._under_way[at] -= 1
        self._told[at] = max(0, self._told[at] - 1)


def prompts_of(conversation: Conversation, number: int, block_tokens: int) -> list[Prompt]:
    """Every turn's prompt, with answers that say nothing.

    Args:
        number: Of the conversation: chooses its directives.
    """
    answers = [f"Answer {number}. ".ljust(tokens * CHARACTERS_PER_TOKEN, ".") for tokens in conversation.answer_tokens]
    made = []
    for turn, (tokens, reads_s) in enumerate(zip(conversation.answer_tokens, conversation.reads_s, strict=True)):
        sent = conversation.messages(turn, answers[:turn])
        directive = DIRECTIVES[(number + turn) % len(DIRECTIVES)]
        directed = (*sent[:-1], Message("user", f"{sent[-1].content}\n\n{directive}"))
        blocks = block_hashes(directed, conversation.tenant, None, block_tokens)
        key = prefix_key(sent, conversation.tenant, None)
        made.append(Prompt(key, blocks, count_prompt_tokens(directed), tokens, reads_s))
    return made


def simulate(
    made: Sequence[tuple[float, Sequence[Prompt]]],
    make_policy: Callable[[], Policy],
    replicas: int,
    cache: SimulatedCache,
    routers: int,
) -> Figures:
    """The figures of one policy.

    Args:
        made: Of each conversation, when it starts and its prompts; at least two, by their starts.
        make_policy: Makes the policy of one router.
        cache: Of each replica.
        routers: How many ingress replicas there are.
    """
    caches = [BlockCache(cache) for _ in range(replicas)]
    known = [_Router(make_policy(), replicas) for _ in range(routers)]
    loads, served, held = [0] * replicas, [0] * replicas, [0.0] * replicas
    cached = tokens = 0
    until_s = made[-1][0]
    warm_s = WARM_UP * until_s
    order = itertools.count()
    # Time, a number that makes it unlike all others, and either a turn to come or a request that ends.
    events: list[tuple[float, int, int, int, tuple[_Router, int] | None]] = [
        (starts_s, next(order), at, 0, None) for at, (starts_s, _) in enumerate(made)
    ]
    heapq.heapify(events)
    now, number = 0.0, 0
    while events[0][0] < until_s:
        time_s, _, index, turn, ends = heapq.heappop(events)
        for at, load in enumerate(loads):
            held[at] += load * max(0.0, time_s - max(now, warm_s))
        now = time_s
        if ends is not None:
            router, at = ends
            loads[at] -= 1
            router.ended(at)
            continue
        prompt = made[index][1][turn]
        router = known[number % routers]
        at = router.choose(prompt.key)
        loads[at] += 1
        router.sent(at, loads[at])
        found = caches[at].admit(prompt.blocks) * cache.block_tokens
        number += 1
        if now >= warm_s:
            cached += found
            tokens += prompt.tokens
            served[at] += 1
        done_s = now + PROMPT_TOKEN_S * (prompt.tokens - found) + TOKEN_S * prompt.answer_tokens
        heapq.heappush(events, (done_s, next(order), index, turn, (router, at)))
        if turn + 1 < len(made[index][1]):
            heapq.heappush(events, (done_s + prompt.reads_s, next(order), index, turn + 1, None))
    return Figures(
        hits=cached / tokens,
        busiest=max(served) * replicas / sum(served),
        busiest_at_once=max(held) * replicas / sum(held),
        at_once=sum(held) / replicas / (until_s - warm_s),
    )
