"""What the stream guard adds to the time at which a stream's text leaves.

Right answers come in tokens of the packaged model, at a steady pace; the clock is virtual but for the guard's own work,
which is measured as this thread's time. A token's delay is the time from its coming until all of it has left.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from benchmarks.validation.cases import context_of
from benchmarks.validation.corpus import Record
from benchmarks.validation.shares import spread
from deployments.validator.checks import CHECKS
from deployments.validator.guard import StreamGuard
from deployments.validator.policy import QualityPolicy, parse_policy
from graph.contracts import CheckContext

__all__ = ["PACE", "load_splitter", "measure_delays", "split_by"]

PACE = 30.0
"""Tokens a second of one stream."""
Split = Callable[[str], Sequence[str]]


def load_splitter() -> Split:
    """Splits a text as the packaged model would write it.

    Raises:
        OSError: The model was not prepared; ``make model`` does it.
    """
    from tokenizers import Tokenizer

    from deployments.generator.model_store import packaged_model_dir

    tokenizer = Tokenizer.from_str((packaged_model_dir() / "tokenizer.json").read_text(encoding="utf-8"))
    return lambda text: split_by(text, [end for _, end in tokenizer.encode(text, add_special_tokens=False).offsets])


def split_by(text: str, ends: Sequence[int]) -> list[str]:
    """The pieces of ``text`` that end at ``ends``, in characters; of one split between tokens the last brings it."""
    borders = [0]
    for end in ends:
        borders.append(max(borders[-1], end))
    borders[-1] = len(text)
    return [text[begin:end] for begin, end in pairwise(borders)]


def measure_delays(records: Sequence[Record], systems: Sequence[Record], split: Split) -> dict[str, Any]:
    """Sends every record through a guard under the default policy, and under each hard check alone.

    Each is judged under a system prompt, in turn: without one nothing can be leaked.

    Returns:
        JSON-ready: by what watches ("all", or one check), milliseconds (p50, p95, max) that are added to the first
        text of a stream and to a token, and the share of tokens that leave at once.
    """
    jobs = [
        (split(record.text), _context(record, systems[number % len(systems)])) for number, record in enumerate(records)
    ]
    hard = [name for name, check in CHECKS.items() if check.watch is not None]
    policies = {"all": QualityPolicy(), **{name: _only(name, hard) for name in hard}}
    return {
        "tokens_per_second": PACE,
        "streams": len(jobs),
        "tokens": sum(len(pieces) for pieces, _ in jobs),
        "by_check": {name: _measure(jobs, policy) for name, policy in policies.items()},
    }


def _context(record: Record, system: Record) -> CheckContext:
    context = context_of(record)
    return CheckContext(context.prompt, system=system.text, known_text=context.known_text)


def _only(name: str, hard: Sequence[str]) -> QualityPolicy:
    return parse_policy({"checks": {other: {"enabled": False} for other in hard if other != name}}, "delays")


def _measure(jobs: Sequence[tuple[Sequence[str], CheckContext]], policy: QualityPolicy) -> Mapping[str, Any]:
    firsts, tokens = [], []
    for pieces, context in jobs:
        delays = _stream(pieces, StreamGuard(context, policy))
        if delays:
            firsts.append(delays[0])
            tokens += delays
    # A token that comes after this one has not come yet.
    at_once = sum(delay < 1 / PACE for delay in tokens)
    return {
        "first_ms": spread([1e3 * each for each in firsts]),
        "token_ms": spread([1e3 * each for each in tokens]),
        "at_once": at_once / len(tokens) if tokens else 0.0,
    }


def _stream(pieces: Sequence[str], guard: StreamGuard) -> list[float]:
    """Seconds that each piece was held, for the first one until any of it left; of a stream that is not let through
    as it came, only the pieces before that."""
    arrivals = [number / PACE for number in range(len(pieces))]
    ends, size = [], 0
    for piece in pieces:
        size += len(piece)
        ends.append(size)
    delays: list[float] = []
    left = 0
    for number in range(len(pieces) + 1):
        began = time.thread_time()
        released = guard.feed(pieces[number]) if number < len(pieces) else guard.flush()
        worked = time.thread_time() - began
        if released.stop or released.findings:
            break
        # The engine says with the last token that it is the last.
        now = arrivals[min(number, len(pieces) - 1)] + worked
        left += len(released.text)
        while len(delays) < len(pieces) and left >= (1 if not delays else ends[len(delays)]):
            delays.append(now - arrivals[len(delays)])
    return delays
