"""Asks the service, remembers every answer, and goes on where an interrupted run stopped.

An answer is kept in a file of JSON lines under the hash of its request and of what answers it: the model, the
catalogue, the engine's version and the code of the levers. A run that starts again asks only for what is missing.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import httpx

TRIES = 5
BACKOFF_S = 2.0
"""Before the second try; doubles with each, unless the service says when to come back."""
TIMEOUT_S = 1200.0
"""Of one request. At depth 100 with 32 others beside it, two cores need minutes."""

MAX_FAILURES = 50
"""Questions without an answer, after which the service is taken for gone."""

Body = Mapping[str, Any]
"""A chat request without ``model``."""


class TooManyFailures(Exception):
    """The service does not answer any more. What it answered before is in the store."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request came to; as much of it as the figures need."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    """Of the attempt that was delivered."""
    cached_tokens: int
    attempts: int
    outcome: str
    findings: tuple[str, ...]
    """Names of the checks that found something, notes included."""
    target_words: int | None
    directive: str | None

    @classmethod
    def of(cls, completion: Mapping[str, Any]) -> Self:
        """Reads a chat completion."""
        (choice,) = completion["choices"]
        usage, vendor = completion["usage"], completion["rheostat"]
        return cls(
            text=choice["message"]["content"] or "",
            finish_reason=choice["finish_reason"],
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=usage["completion_tokens"],
            cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
            attempts=vendor["attempts"],
            outcome=vendor["quality"]["outcome"],
            findings=tuple(sorted({finding["check"] for finding in vendor["quality"]["findings"]})),
            target_words=vendor["controls"]["target_words"],
            directive=vendor["controls"]["directive"],
        )

    @classmethod
    def restored(cls, data: Mapping[str, Any]) -> Self:
        """Reads what ``asdict`` gave. Raises KeyError where a field is missing."""
        values = {field.name: data[field.name] for field in fields(cls)}
        return cls(**{**values, "findings": tuple(values["findings"])})


@dataclass(frozen=True, slots=True)
class Facts:
    """What answers: part of every answer's key, and of the record."""

    model: str
    engine: str
    system_fingerprint: str
    catalogue: str
    controls: tuple[Mapping[str, Any], ...]
    """Of ``GET /v1/controls``."""

    @property
    def sliders(self) -> Mapping[str, Mapping[str, Any]]:
        return {knob["name"]: knob for knob in self.controls if knob["kind"] == "lp"}

    @property
    def key(self) -> tuple[str, ...]:
        return (self.model, self.system_fingerprint, self.catalogue)


class Store:
    """A file of JSON lines, each a value under a key and a version of the code; a torn last line is skipped.

    Args:
        path: The file; made when the first value comes.
        code: Of what answers. Values of other code stay in the file and are not found.
        any_code: Find them all the same: for a change that is known to change no answer.
    """

    def __init__(self, path: Path, code: str, any_code: bool = False) -> None:
        self._path = path
        self._code = code
        self._values: dict[str, Any] = {}
        self._is_torn = False
        if path.exists():
            text = path.read_text()
            self._is_torn = bool(text) and not text.endswith("\n")
            for line in text.splitlines():
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:
                    continue  # the run was interrupted while it wrote this line
                if any_code or entry["code"] == code:
                    self._values[entry["key"]] = entry["value"]

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str) -> Any:
        return self._values.get(key)

    def put(self, key: str, value: Any) -> None:
        self._values[key] = value
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"key": key, "code": self._code, "value": value}) + "\n"
        with self._path.open("a") as file:
            file.write("\n" * self._is_torn + line)
        self._is_torn = False


class Asker:
    """One service, asked ``concurrency`` questions at a time.

    Args:
        tell: Called once a finished question, with the tokens that it made (0 when it was remembered).
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        facts: Facts,
        store: Store,
        concurrency: int,
        tell: Callable[[int], None] = lambda tokens: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.facts = facts
        self.client = client
        self.store = store
        self.tell = tell
        self.failures: list[str] = []
        self.asked = 0
        """Requests that were answered by the service, not from the store."""
        self._slots = asyncio.Semaphore(concurrency)
        self._sleep = sleep

    def key(self, body: Body) -> str:
        """The key of a request's answer: 24 hex digits."""
        text = json.dumps([self.facts.key, body], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    async def ask(self, body: Body, *, remember: bool = True) -> Answer | None:
        """The answer to a request; None when every try failed, which ``failures`` tells of.

        Args:
            remember: Take it from the store if it is there, and put it there. Not for what depends on the moment,
                such as the prefix cache.
        """
        key = self.key(body)
        if remember and (known := self.store.get(key)) is not None:
            self.tell(0)
            return Answer.restored(known)
        async with self._slots:
            answer = await self._ask(body)
        self.tell(answer.completion_tokens if answer else 0)
        if answer is not None and remember:
            self.store.put(key, asdict(answer))
        return answer

    async def ask_all(self, bodies: Sequence[Body], *, remember: bool = True) -> list[Answer | None]:
        """The answers in the order of ``bodies``. Asked in a mixed order, so that long answers do not come at once."""
        answers: dict[int, Answer | None] = {}

        async def one(index: int) -> None:
            answers[index] = await self.ask(bodies[index], remember=remember)

        order = sorted(range(len(bodies)), key=lambda index: self.key(bodies[index]))
        async with asyncio.TaskGroup() as group:
            for index in order:
                group.create_task(one(index))
        return [answers[index] for index in range(len(bodies))]

    async def _ask(self, body: Body) -> Answer | None:
        said = ""
        for attempt in range(TRIES):
            wait_s = BACKOFF_S * 2**attempt
            try:
                response = await self.client.post("/v1/chat/completions", json={"model": self.facts.model, **body})
                if response.status_code == 200:
                    self.asked += 1
                    return Answer.of(response.json())
                said = f"{response.status_code} {response.text[:300]}"
                if response.headers.get("x-should-retry") == "false" or response.status_code in (400, 401, 404, 413):
                    break
                wait_s = max(wait_s, float(response.headers.get("retry-after", 0)))
            except (httpx.HTTPError, KeyError, ValueError) as error:
                said = f"{type(error).__name__}: {error}"
            if attempt < TRIES - 1:
                await self._sleep(wait_s)
        self.failures.append(said)
        if len(self.failures) >= MAX_FAILURES:
            raise TooManyFailures(f"{len(self.failures)} questions were not answered; the last: {said}")
        return None


async def read_facts(client: httpx.AsyncClient) -> Facts:
    """What the service says of itself; asks one short question, for that is where it says what its engine is.

    Raises:
        httpx.HTTPError: It does not answer.
    """
    model = (await client.get("/v1/models")).raise_for_status().json()["data"][0]["id"]
    described = (await client.get("/v1/controls")).raise_for_status().json()
    short = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "Say yes."}]}
    for _ in range(TRIES):
        response = await client.post("/v1/chat/completions", json=short)
        if response.status_code not in (429, 503):
            break
        await asyncio.sleep(BACKOFF_S)
    answer = response.raise_for_status().json()
    return Facts(
        model=model,
        engine=answer["rheostat"]["engine"],
        system_fingerprint=answer["system_fingerprint"],
        catalogue=described["catalogue"],
        controls=tuple(described["controls"]),
    )


def connect(url: str, concurrency: int) -> httpx.AsyncClient:
    """A client for one service; enough connections for every slot, none through a proxy."""
    limits = httpx.Limits(max_connections=concurrency + 4)
    return httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, limits=limits, trust_env=False)
