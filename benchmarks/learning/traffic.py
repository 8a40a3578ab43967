"""Asks a running service and tells it what people think: through HTTP, as any client does."""

import asyncio
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from benchmarks.learning.people import Said

CONTROLS: Mapping[str, Any] = {"lp": {"depth": 10}}
"""Short answers, about 36 words: what is learnt does not depend on it, and two cores write them in time."""
BAD_OUTCOMES = ("degraded", "blocked")
CONCURRENCY = 24
SENDERS = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as a client got it."""

    question: str
    text: str
    generation_id: str
    token: str
    adapter: str | None
    arm: str
    has_failed: bool
    """A check found fault with it, as a canary counts."""


def ask_all(
    url: str,
    questions: Sequence[str],
    *,
    seed: int = 0,
    person: Callable[[int], str] | None = None,
    headers: Mapping[str, str] | None = None,
    concurrency: int = CONCURRENCY,
    on_answer: Callable[[int], None] = lambda done: None,
    **more: Any,
) -> list[Answer]:
    """One answer a question, in order.

    Args:
        seed: Of the first question; the others count on from it.
        person: Who asks question i; None: nobody says.
        more: Of the request's body, over the defaults.

    Raises:
        httpx.HTTPStatusError: A request was refused.
    """
    return asyncio.run(_ask_all(url, questions, seed, person, headers, concurrency, on_answer, more))


async def _ask_all(
    url: str,
    questions: Sequence[str],
    seed: int,
    person: Callable[[int], str] | None,
    headers: Mapping[str, str] | None,
    concurrency: int,
    on_answer: Callable[[int], None],
    more: Mapping[str, Any],
) -> list[Answer]:
    places = asyncio.Semaphore(concurrency)
    done = [0]
    async with httpx.AsyncClient(base_url=url, timeout=300, trust_env=False, headers=headers) as client:
        model = (await client.get("/v1/models")).json()["data"][0]["id"]

        async def ask(at: int, question: str) -> Answer:
            body = {
                "model": model,
                "messages": [{"role": "user", "content": question}],
                "controls": CONTROLS,
                "seed": seed + at,
                **({"user": person(at)} if person else {}),
                **more,
            }
            async with places:
                response = await client.post("/v1/chat/completions", json=body)
            response.raise_for_status()
            done[0] += 1
            on_answer(done[0])
            return to_answer(question, response.json())

        return list(await asyncio.gather(*(ask(at, question) for at, question in enumerate(questions))))


def to_answer(question: str, body: Mapping[str, Any]) -> Answer:
    """What counts of a completion."""
    told = body["rheostat"]
    message = body["choices"][0]["message"]
    return Answer(
        question,
        message["content"] or message.get("refusal") or "",
        told["generation_id"],
        told["feedback_token"],
        told["adapter"],
        told["arm"],
        has_failed(told["quality"]),
    )


def has_failed(quality: Mapping[str, Any]) -> bool:
    """Whether a check found fault with an answer, by its ``quality``: what Rollout counts as a failure."""
    return quality["outcome"] in BAD_OUTCOMES or any(finding["action"] != "note" for finding in quality["findings"])


def tell_all(url: str, said: Iterable["Said"], rng: Random, headers: Mapping[str, str] | None = None) -> int:
    """Sends every event and returns how many were stored; ids are by ``rng``, so that a run can be repeated.

    Raises:
        httpx.HTTPStatusError: One was refused.
    """
    bodies = [
        {
            "event_id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            "feedback_token": each.answer.token,
            **each.body,
        }
        for each in said
    ]
    return asyncio.run(_tell_all(url, bodies, headers))


async def _tell_all(url: str, bodies: Sequence[Mapping[str, Any]], headers: Mapping[str, str] | None) -> int:
    places = asyncio.Semaphore(SENDERS)
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, headers=headers) as client:

        async def tell(body: Mapping[str, Any]) -> None:
            async with places:
                (await client.post("/v1/feedback", json=body)).raise_for_status()

        await asyncio.gather(*(tell(body) for body in bodies))
    return len(bodies)
