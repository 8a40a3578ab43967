"""Does a dial that is moved between turns keep the prefix cache? Ten turns, read from vLLM's own counters.

Each arm holds the same conversations and differs in what changes between turns, and where the directive stands:

- ``unmoved``: all dials set by hand, none moved.
- ``moved``: one dial goes back and forth from turn to turn. The directive is where Rheostat puts it.
- ``system``: the alternative of putting the directive (technicality, moved) into the system prompt.
- ``after``: the alternative of a message of its own after the last user turn, left out of the history.

The client builds the alternatives: it takes a directive's text from a preview, sends no dials but creativity, and
bounds the answers, which no dial does there. A conversation begins with a line of its own, so that no arm finds
another's tokens in the cache. Its answers are never taken from the store singly, since a cache does not outlive a
conversation: a conversation is kept whole or held again.

Figures of turn k, all from ``usage``:

- ``earlier``: tokens of the turns before k, as they stand in the prompt of turn k. It is that prompt's length minus
  the length of a prompt with turn k alone, which is asked for afterwards.
- ``share``: cached tokens of turn k, without those of the template around an empty conversation, of ``earlier``.
  The template's part is overstated by a question of one letter, so the share is understated by as much.
- ``share_of_seen``: cached tokens of what the engine had seen before: the prompt of turn k - 1, which includes that
  turn's directive, and its answer.
"""

import asyncio
import itertools
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from benchmarks.controls.asking import Asker
from benchmarks.controls.conversations import CONVERSATIONS
from benchmarks.controls.plan import FIXED, SLIDERS, turns

Place = Literal["turn", "system", "after"]
REST: Mapping[str, int] = {**FIXED, "depth": 25}
"""About 60 words an answer, so that ten turns fit a context of 2,048 tokens."""
ENDS: Mapping[str, tuple[int, int]] = {
    "depth": (18, 31),
    "creativity": (20, 80),
    "technicality": (20, 80),
    "formality": (20, 80),
}
"""Between which levels a moved dial goes back and forth. Depth's targets, 48 and 76 words, have the mean of ``REST``'s
61: a longer conversation loses a smaller share of itself, whatever is moved."""
MAX_TOKENS = 110
"""Of an answer in the arms without dials."""
LENGTH_TOKENS = 4
"""Of an answer that is asked for its prompt's length alone; an empty one would be tried again."""
AT_ONCE = 6
"""Conversations, which take some 6,000 tokens of a cache of 46,000; more would push each other out of it."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to hold the conversations."""

    name: str
    kind: Literal["unmoved", "moved", "alternative"]
    moves: str | None = None
    place: Place = "turn"

    def levels(self, turn: int) -> dict[str, int]:
        """All sliders at a turn, counted from 0."""
        return {**REST, **({self.moves: ENDS[self.moves][turn % 2]} if self.moves else {})}


ARMS = (
    Arm("no dial moved", "unmoved"),
    *(Arm(f"{name} moved", "moved", name) for name in SLIDERS),
    Arm("directive in the system prompt", "alternative", "technicality", "system"),
    Arm("directive in the system prompt, not moved", "alternative", None, "system"),
    Arm("directive after the last user turn", "alternative", "technicality", "after"),
)

Message = dict[str, str]


def requests_needed(questions: Sequence[str]) -> int:
    """Of one conversation: each turn, each turn alone, and a question of one letter."""
    return 2 * len(questions) + 1


async def hold(asker: Asker, arm: Arm, number: int, seed: int) -> list[dict[str, int]] | None:
    """Holds one conversation in one arm; what usage said of each turn, or None if a turn was not answered.

    Returns:
        For each turn ``prompt``, ``cached``, ``answer`` (tokens), ``attempts``, ``alone`` (the prompt's tokens with
        that turn alone) and ``empty`` (those of a question of one letter).
    """
    questions = CONVERSATIONS[number]
    levels = [arm.levels(turn) for turn in range(len(questions))]
    spec = {"prefix": [arm.name, arm.place, seed, MAX_TOKENS], "questions": questions, "levels": levels}
    key = asker.key(spec)
    known = asker.store.get(key)
    if known is not None:
        for _ in range(requests_needed(questions)):
            asker.tell(0)
        return list(known)
    mark = secrets.token_hex(4)
    history: list[Message] = []
    bodies, seen = [], []
    for turn, question in enumerate(questions):
        directive = await _directive(asker, arm.levels(turn)) if arm.place != "turn" else ""
        asked = f"Conversation {mark}.\n{question}" if turn == 0 else question
        body = _body(arm, turn, [*history, {"role": "user", "content": asked}], directive, seed)
        answer = await asker.ask(body, remember=False)
        if answer is None:
            return None
        history += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer.text}]
        bodies.append(_body(arm, turn, [{"role": "user", "content": asked}], directive, seed))
        seen.append(
            {
                "prompt": answer.prompt_tokens,
                "cached": answer.cached_tokens,
                "answer": answer.completion_tokens,
                "attempts": answer.attempts,
            }
        )
    # Only now: asked before, these would stand in the cache.
    empty = await _length(asker, {"messages": turns("x")})
    for body, usage in zip(bodies, seen, strict=True):
        alone = await _length(asker, body)
        if alone is None or empty is None:
            return None
        usage |= {"alone": alone, "empty": empty}
    asker.store.put(key, seen)
    return seen


async def hold_all(asker: Asker, conversations: int, seed: int) -> dict[str, list[list[dict[str, int]]]]:
    """All conversations in all arms, a few at a time."""
    slots = asyncio.Semaphore(AT_ONCE)
    held: dict[str, list[list[dict[str, int]]]] = {arm.name: [] for arm in ARMS}

    async def one(arm: Arm, number: int) -> None:
        async with slots:
            usage = await hold(asker, arm, number, seed)
        if usage is not None:
            held[arm.name].append(usage)

    async with asyncio.TaskGroup() as group:
        for number in range(conversations):
            for arm in ARMS:
                group.create_task(one(arm, number))
    return held


def prefix_figures(held: Mapping[str, Sequence[Sequence[Mapping[str, int]]]]) -> dict[str, Any]:
    """Shares by turn, means over the conversations of an arm.

    A turn whose answer was tried twice is left out, and counted: its second try found the first one's prompt cached.
    """
    last = max((len(usage) for usages in held.values() for usage in usages), default=0)
    arms = {}
    for arm in ARMS:
        usages = held.get(arm.name, ())
        if not usages:
            continue
        rows = [[_turn(*pair) for pair in itertools.pairwise(each)] for each in usages]
        kept = [[row[at] for row in rows if not row[at]["second_try"]] for at in range(last - 1)]
        together = [turn for turns_at in kept for turn in turns_at]
        arms[arm.name] = {
            "kind": arm.kind,
            "moves": arm.moves,
            "conversations": len(usages),
            "second_tries": sum(int(turn["second_try"]) for row in rows for turn in row),
            "at_last_turn": _mean([turn["share"] for turn in kept[-1]]),
            "over_turns": sum(turn["kept"] for turn in together) / max(1, sum(turn["earlier"] for turn in together)),
            "seen_at_last_turn": _mean([turn["share_of_seen"] for turn in kept[-1]]),
            "by_turn": {at + 2: _mean([turn["share"] for turn in turns_at]) for at, turns_at in enumerate(kept)},
            "prompt_tokens_at_last_turn": fmean(each[-1]["prompt"] for each in usages),
            "answer_tokens": fmean(turn["answer"] for each in usages for turn in each),
        }
    return {"turns": last, "arms": arms}


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _turn(before: Mapping[str, int], usage: Mapping[str, int]) -> dict[str, float]:
    earlier = usage["prompt"] - usage["alone"]
    kept = min(max(usage["cached"] - usage["empty"], 0), earlier)
    return {
        "earlier": earlier,
        "kept": kept,
        "share": kept / max(earlier, 1),
        "share_of_seen": usage["cached"] / (before["prompt"] + before["answer"]),
        "second_try": usage["attempts"] > 1,
    }


def _body(arm: Arm, turn: int, messages: Sequence[Message], directive: str, seed: int) -> dict[str, Any]:
    controls: dict[str, Any] = {"lp": arm.levels(turn)}
    limit = {}
    if arm.place != "turn":
        controls = {"lp": {"creativity": arm.levels(turn)["creativity"]}}
        limit = {"max_tokens": MAX_TOKENS}
        told = {"role": "system" if arm.place == "system" else "user", "content": directive}
        messages = [told, *messages] if arm.place == "system" else [*messages, told]
    return {"messages": list(messages), "controls": controls, "seed": seed + turn, **limit}


async def _directive(asker: Asker, levels: Mapping[str, int]) -> str:
    """The text that a setting compiles into."""
    response = await asker.client.post("/v1/controls/preview", json={"controls": {"lp": dict(levels)}})
    return str(response.raise_for_status().json()["directive"] or "")


async def _length(asker: Asker, body: Mapping[str, Any]) -> int | None:
    """The tokens of a request's prompt, by asking for next to nothing; None without an answer."""
    answer = await asker.ask({**body, "max_tokens": LENGTH_TOKENS}, remember=False)
    return answer.prompt_tokens if answer else None
