"""A slider is moved by 40 between two turns of a conversation: does the next answer follow?

The first turn asks a prompt's question at one level, the second its follow-up at another, with the model's own first
answer in between. A pair has moved right when the second answer's yardstick lies on the side of the first one's that
the dial was turned to. A second figure compares with what the second turn says when the dial was left where it was:
the follow-up is another question, and that alone moves a yardstick. A tie counts as not moved.

Creativity's yardsticks take several answers: every turn is asked with ten seeds, and the first of the first turn's
answers is the history of all second ones, so that they differ by the dial and not by what went before.

Every yardstick of a slider is told, and judged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.controls.asking import Answer, Asker
from benchmarks.controls.embeddings import Embedder
from benchmarks.controls.figures import Interval, distinct_2, variety, wilson
from benchmarks.controls.plan import Plan, derive_seed, fixed_levels, turns
from benchmarks.controls.prompts import Prompt
from benchmarks.controls.samples import CURVES, MEASURES, measure_text

MOVES = ((10, 50), (50, 10), (30, 70), (70, 30), (50, 90), (90, 50))
"""Of 40, over the whole dial and both ways; prompts take turns with them."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One conversation to be held."""

    knob: str
    prompt: Prompt
    seed_index: int
    move: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Held:
    """A conversation that was held: the texts of each turn, one a seed, without those that did not come."""

    pair: Pair
    first: Sequence[str] = ()
    second: Sequence[str] = ()
    unmoved: Sequence[str] = ()
    """Of the second turn with the dial left where it was."""


@dataclass(frozen=True, slots=True)
class Turned:
    """What a yardstick said of each turn; None where it could say nothing."""

    pair: Pair
    first: float | None
    second: float | None
    unmoved: float | None


def make_pairs(knob: str, plan: Plan) -> list[Pair]:
    """A conversation a prompt."""
    return [Pair(knob, prompt, 0, MOVES[prompt.index % len(MOVES)]) for prompt in plan.prompts]


def answers_needed(pairs: Sequence[Pair], plan: Plan) -> int:
    """Answers that ``turn`` asks for, over all pairs."""
    return sum(3 * _answers_a_turn(pair, plan) for pair in pairs)


async def hold(asker: Asker, pair: Pair, plan: Plan) -> Held:
    """Holds one conversation, and its second turn once more with the dial left alone."""
    low, high = pair.move
    question, follow_up = pair.prompt.question, pair.prompt.follow_up
    first = await _ask(asker, pair, low, turns(question), plan)
    history = next((answer for answer in first if answer is not None), None)
    if history is None:
        return Held(pair)
    conversation = turns(question, history.text, follow_up)
    second = await _ask(asker, pair, high, conversation, plan)
    unmoved = await _ask(asker, pair, low, conversation, plan)
    return Held(pair, _texts(first), _texts(second), _texts(unmoved))


def immediacy_figures(knob: str, held: Sequence[Held], embedder: Embedder) -> dict[str, Any]:
    """Shares of pairs that moved right by the slider's yardstick, with its other yardsticks beside it."""
    by_yardstick = {name: _yardstick_figures([_read(name, each, embedder) for each in held]) for name in CURVES[knob]}
    judged = MEASURES[knob][0]
    others = {name: figures for name, figures in by_yardstick.items() if name != judged}
    return {"yardstick": judged, **by_yardstick[judged], "beside": others}


def _yardstick_figures(turned: Sequence[Turned]) -> dict[str, Any]:
    """Shares with Wilson's intervals: over all, by move and kind, and against the dial left alone."""
    whole = [each for each in turned if each.first is not None and each.second is not None]
    against = [each for each in whole if each.unmoved is not None]
    return {
        "conversations": len(turned),
        "pairs": len(whole),
        "moved_right": _share(whole, lambda each: each.first),
        "tied": sum(each.first == each.second for each in whole),
        "against_unmoved": _share(against, lambda each: each.unmoved),
        "by_move": {
            f"{low} → {high}": _share(
                [each for each in whole if each.pair.move == (low, high)], lambda each: each.first
            )
            for low, high in MOVES
        },
        "by_kind": {
            kind: _share([each for each in whole if each.pair.prompt.kind == kind], lambda each: each.first)
            for kind in sorted({each.pair.prompt.kind for each in whole})
        },
    }


def moved_right(knob: str, move: tuple[int, int], before: float, after: float) -> bool:
    """Whether a yardstick went to the side that the dial was turned to."""
    way = MEASURES[knob][1] * (1 if move[1] > move[0] else -1)
    return way * (after - before) > 0


def _share(turned: Sequence[Turned], before: Callable[[Turned], float | None]) -> Interval:
    hits = 0
    for each in turned:
        was, now = before(each), each.second
        hits += was is not None and now is not None and moved_right(each.pair.knob, each.pair.move, was, now)
    return wilson(hits, len(turned))


def _answers_a_turn(pair: Pair, plan: Plan) -> int:
    return plan.creativity_turn_answers if pair.knob == "creativity" else 1


async def _ask(
    asker: Asker, pair: Pair, level: int, messages: Sequence[Mapping[str, str]], plan: Plan
) -> list[Answer | None]:
    """The answers of one turn, one a seed, None where none came."""
    name = f"immediacy {pair.knob} {len(messages)}"
    return await asker.ask_all(
        [
            {
                "messages": messages,
                "controls": {"lp": {**fixed_levels(pair.knob), pair.knob: level}},
                "seed": derive_seed(plan.run_seed, name, pair.prompt, pair.seed_index + index),
            }
            for index in range(_answers_a_turn(pair, plan))
        ]
    )


def _texts(answers: Sequence[Answer | None]) -> list[str]:
    return [answer.text for answer in answers if answer is not None]


def _read(yardstick: str, held: Held, embedder: Embedder) -> Turned:
    """What a yardstick says of a conversation."""
    return Turned(
        held.pair,
        _measure(yardstick, held.first, embedder),
        _measure(yardstick, held.second, embedder),
        _measure(yardstick, held.unmoved, embedder),
    )


def _measure(yardstick: str, texts: Sequence[str], embedder: Embedder) -> float | None:
    if yardstick == "variety":
        return variety(embedder.embed(texts)) if len(texts) > 1 else None
    if yardstick == "distinct_2":
        return distinct_2(texts) if len(texts) > 1 else None
    return measure_text(texts[0]).get(yardstick) if texts else None
