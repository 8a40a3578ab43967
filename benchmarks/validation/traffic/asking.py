"""Asks a running service real questions with random settings, and keeps what it says of each answer.

No answer is asked for twice: a refusal or a stream that broke is part of the traffic and is counted.
"""

import asyncio
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx

from benchmarks.smoke import random_controls
from benchmarks.validation.corpus import Record
from benchmarks.validation.raw_settings import choose_questions

__all__ = ["Ask", "Found", "Sample", "ask_all", "make_asks"]

_MOST_SAID = 300
"""Characters of a refusal that are kept."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    record_id: str
    """Whose question it is."""
    body: Mapping[str, Any]
    """A chat request without ``model``."""

    @property
    def is_streamed(self) -> bool:
        return bool(self.body.get("stream"))


@dataclass(frozen=True, slots=True)
class Found:
    """A finding of an answer, without its text."""

    check: str
    severity: str
    action: str


@dataclass(frozen=True, slots=True)
class Sample:
    """What one request came to. All but the first four say nothing where there was a ``failure``."""

    record: str
    streamed: bool
    asked: Mapping[str, Any]
    """The request's controls."""
    failure: str | None
    """What was said in place of an answer; None: it was answered."""
    settings: Mapping[str, int | str]
    """By knob as they were in force: every switch, and those sliders that the request or a preset moved."""
    outcome: str = ""
    score: float | None = None
    """None: the answer is unvalidated."""
    scores: Mapping[str, float] | None = None
    findings: tuple[Found, ...] = ()
    attempts: int = 0
    finish_reason: str = ""
    tokens: int = 0
    """Of the answer."""

    @classmethod
    def of(cls, ask: Ask, finish_reason: str, vendor: Mapping[str, Any], tokens: int) -> Self:
        """Reads the ``rheostat`` object of an answer. Raises KeyError where something is missing."""
        controls, quality = vendor["controls"], vendor["quality"]
        moved = {name: knob["value"] for name, knob in controls["lp"].items() if knob["source"] != "default"}
        return cls(
            record=ask.record_id,
            streamed=ask.is_streamed,
            asked=ask.body["controls"],
            failure=None,
            settings={**moved, **{name: knob["value"] for name, knob in controls["ls"].items()}},
            outcome=quality["outcome"],
            score=quality["score"],
            scores=quality["scores"],
            findings=tuple(Found(each["check"], each["severity"], each["action"]) for each in quality["findings"]),
            attempts=vendor["attempts"],
            finish_reason=finish_reason,
            tokens=tokens,
        )

    @classmethod
    def failed(cls, ask: Ask, failure: str) -> Self:
        """No answer."""
        return cls(ask.record_id, ask.is_streamed, ask.body["controls"], failure, {})


class _NotAnswered(Exception):
    """The service refused, or a stream did not come to its end; holds what was said."""


def make_asks(records: Sequence[Record], controls: Sequence[Mapping[str, Any]], count: int, seed: int) -> list[Ask]:
    """The requests of one run, every second one streamed; the same for the same arguments.

    Args:
        records: Whose questions are asked; ``count`` of them are chosen.
        controls: The knobs, as ``GET /v1/controls`` lists them.

    Raises:
        ValueError: There are fewer records.
    """
    return [
        _make_ask(record, controls, random.Random(f"traffic {seed} {record.id}"), is_streamed=index % 2 == 1)
        for index, record in enumerate(choose_questions(records, count, seed))
    ]


def _make_ask(record: Record, controls: Sequence[Mapping[str, Any]], rng: random.Random, is_streamed: bool) -> Ask:
    streamed = {"stream": True, "stream_options": {"include_usage": True}} if is_streamed else {}
    body = {
        "messages": [{"role": "user", "content": record.question}],
        "controls": random_controls(rng, {"controls": controls}),
        "seed": rng.randrange(2**31),
        **streamed,
    }
    return Ask(record.id, body)


async def ask_all(
    client: httpx.AsyncClient,
    model: str,
    asks: Sequence[Ask],
    concurrency: int,
    tell: Callable[[int], None] = lambda tokens: None,
) -> list[Sample]:
    """The samples in the order of ``asks``, ``concurrency`` of them asked at a time.

    Args:
        tell: Called once a request, with the tokens of its answer.
    """
    slots = asyncio.Semaphore(concurrency)

    async def one(ask: Ask) -> Sample:
        async with slots:
            sample = await _ask(client, model, ask)
        tell(sample.tokens)
        return sample

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(ask)) for ask in asks]
    return [task.result() for task in tasks]


async def _ask(client: httpx.AsyncClient, model: str, ask: Ask) -> Sample:
    read = _read_stream if ask.is_streamed else _read_whole
    try:
        return Sample.of(ask, *await read(client, {"model": model, **ask.body}))
    except _NotAnswered as error:
        return Sample.failed(ask, str(error)[:_MOST_SAID])
    except (httpx.HTTPError, KeyError, IndexError, TypeError, ValueError) as error:
        return Sample.failed(ask, f"{type(error).__name__}: {error}"[:_MOST_SAID])


async def _read_whole(client: httpx.AsyncClient, body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], int]:
    """How an answer ended, what is said of it, and its tokens."""
    response = await client.post("/v1/chat/completions", json=body)
    if response.status_code != 200:
        raise _NotAnswered(f"{response.status_code} {response.text}")
    answer = response.json()
    return answer["choices"][0]["finish_reason"], answer["rheostat"], answer["usage"]["completion_tokens"]


async def _read_stream(client: httpx.AsyncClient, body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], int]:
    """The same of a stream."""
    finish_reason, vendor, tokens, is_done = "", None, 0, False
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code != 200:
            raise _NotAnswered(f"{response.status_code} {(await response.aread()).decode()}")
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                is_done = True
            elif line.startswith("data: "):
                chunk = json.loads(line.removeprefix("data: "))
                if "error" in chunk:
                    raise _NotAnswered(f"in the stream: {json.dumps(chunk['error'])}")
                if "rheostat" in chunk:
                    finish_reason, vendor = chunk["choices"][0]["finish_reason"], chunk["rheostat"]
                if chunk.get("usage"):
                    tokens = chunk["usage"]["completion_tokens"]
    if vendor is None or not is_done:
        raise _NotAnswered("the stream ended without its verdict" if vendor is None else "the stream ended early")
    return finish_reason, vendor, tokens
