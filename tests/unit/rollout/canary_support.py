"""Rows of a canary as the service writes them, and a registry whose adapters never existed as files."""

import itertools
from dataclasses import replace
from typing import Any

from deployments.feedback.events import generation_row
from deployments.feedback.markers import undelivered_row
from deployments.feedback.schema import to_row
from deployments.rollout.adapter_store import BASE
from deployments.rollout.aliases import Aliases, Change

CHALLENGER = "c" * 64
START_US = 1_700_000_000_000_000
_ids = itertools.count()


def make_answer(
    number: int,
    *,
    canary: bool,
    failed: bool | None = False,
    at_us: int | None = None,
    person: str | None = None,
    adapter: str | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """The row of an answer, asked by a conversation of its own unless a person is named."""
    given: dict[str, Any] = {
        "generation_id": f"answer-{number:05d}",
        "tenant": "acme",
        "model": "tiny",
        "prompt": [{"role": "user", "content": f"question {number}"}],
        "answer": "So.",
        "outcome": "unvalidated" if failed is None else "pass",
        "now_us": START_US + number if at_us is None else at_us,
        "adapter": adapter or (CHALLENGER if canary else None),
        "arm": "challenger" if canary else "champion",
        "failed_checks": None if failed is None else ["ending"] if failed else [],
        "source_id": person,
    }
    return generation_row(**(given | changes))


def make_undelivered(number: int) -> dict[str, Any]:
    return undelivered_row(f"answer-{number:05d}", "acme", START_US + number + 1)


def make_thumb(number: int, up: bool | None, rater: str | None = "rater", **changes: Any) -> dict[str, Any]:
    """A thumb, or with ``kind`` what changes one, about an answer."""
    given = {
        "event_id": f"event-{next(_ids)}",
        "kind": "thumb",
        "name": "thumb",
        "generation_id": f"answer-{number:05d}",
        "tenant": "acme",
        "value_bool": up,
        "source_type": "human",
        "source_id": rater,
        "ts_server_us": START_US + number + 10,
    }
    return to_row(given | changes)


def make_aliases(*shares: tuple[float, int], champion: str = BASE, challenger: str | None = CHALLENGER) -> Aliases:
    """Aliases with a history: a challenger, then its shares, each (share, microseconds after the start)."""
    first = Change(1, "set_challenger", CHALLENGER, champion, challenger, None, 0.0, START_US - 10, "tester", "")
    history = [first]
    for share, after_us in shares:
        history.append(
            replace(first, version=len(history) + 1, action="set_share", share=share, at_us=START_US + after_us)
        )
    return Aliases(len(history), champion, challenger, None, history[-1].share, False, tuple(history))
