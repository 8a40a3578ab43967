"""Asks both arms of the running service the held-out prompts, and measures their answers. An HTTP client.

Each prompt goes to champion and challenger with one seed and the header ``x-rheostat-arm``, through everything that
traffic goes through: controls, validators, formatter, log. Questions of both arms are in flight together and in random
order, so that what the machine does besides meets both alike; for the same reason times are comparable between the arms
of one run and with nothing else.

An answer must say that it comes from the arm and the adapter that were asked for; if not, aliases have moved, and no
decision can be made from what was measured. A failure of the service is a failed answer of its arm, never dropped: a
challenger that makes the engine crash must not look good by it. A prompt that the service refuses says nothing of
either, and is left out for both.
"""

import asyncio
import hashlib
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx

from deployments.controls.yardsticks import count_words
from deployments.rollout.arms import ARMS, Arm
from graph.errors import (
    Conflict,
    InternalError,
    InvalidRequest,
    PermissionDenied,
    RheostatError,
    Unauthenticated,
    Unavailable,
)
from training.gate import AnswerFacts, PairedOutcome, Verdict
from training.held_out import HeldOutPrompt
from training.judges import Judge

ARM_HEADER = "x-rheostat-arm"
_BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_REFUSED = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
_MOVED = "Another promotion, rollback or gate came in between. Run the gate again."


@dataclass(frozen=True, slots=True)
class AskOptions:
    """How the service is asked.

    Raises:
        InvalidRequest: A value out of its range.
    """

    concurrency: int = 8
    """Questions in flight, of both arms together."""
    seed: int = 0
    """Decides the order, and each prompt's sampling seed."""
    max_tokens: int | None = None
    """None: the service's own limit. With one, control fit is not measured: the limit may cut the answer."""
    timeout_s: float = 300.0
    """For one answer."""
    max_wait_s: float = 120.0
    """How long one question waits, all its tries together, while the service is busy."""

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise InvalidRequest(f"concurrency is {self.concurrency}; it must be 1 or more.", param="concurrency")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise InvalidRequest(f"max_tokens is {self.max_tokens}; it must be 1 or more.", param="max_tokens")
        for name in ("timeout_s", "max_wait_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidRequest(f"{name} is {getattr(self, name)}; it must be above 0.", param=name)


@dataclass(frozen=True, slots=True)
class ArmAnswer:
    """What one arm said."""

    text: str
    facts: AnswerFacts
    score: float | None
    """The validators' total; None: not validated."""
    failure: str | None = None
    """Why there is no answer; None: there is one."""


@dataclass(frozen=True, slots=True)
class AskedPair:
    """One prompt and both answers."""

    prompt: HeldOutPrompt
    champion: ArmAnswer
    challenger: ArmAnswer


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All prompts, asked."""

    pairs: tuple[AskedPair, ...]
    """In the order of the prompts."""
    refused: int
    """Prompts that the service refuses; left out for both arms."""
    refusal: str | None
    """What it said of one of them."""

    def failures(self, arm: Arm) -> int:
        """Return how many answers of this arm failed."""
        return sum(getattr(pair, arm).failure is not None for pair in self.pairs)


class _PromptRefused(Exception):
    """The service does not take this prompt."""


class ServiceClient:
    """Asks one service.

    Args:
        client: With base URL and, where the service has keys, the header of an admin tenant's key.
        sleep: Waits so many seconds.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        options: AskOptions,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._options = options
        self._clock = clock
        self._sleep = sleep

    async def model(self) -> str:
        """Return the name of the model that the service serves.

        Raises:
            RheostatError: It cannot be reached, or says something else.
        """
        response, _ = await self._send("GET", "/v1/models", None, {})
        if response.status_code != HTTPStatus.OK:
            raise _fatal(response)
        try:
            return str(response.json()["data"][0]["id"])
        except (ValueError, LookupError, TypeError) as error:
            raise InternalError(f"{self._client.base_url} names no model; is it this service? ({error!r})") from error

    async def ask_both(
        self,
        prompts: Sequence[HeldOutPrompt],
        adapters: Mapping[Arm, str | None],
        on_answer: Callable[[int, int], None] = lambda done, total: None,
    ) -> Evaluation:
        """Ask every prompt of both arms.

        Args:
            prompts: Distinct.
            adapters: What each arm must be served by; None: the base model alone.
            on_answer: Told how many questions of how many are done.

        Raises:
            Conflict: An answer came from another adapter or arm.
            Unauthenticated, PermissionDenied: The key is not one that may choose an arm.
            Unavailable: The service cannot be reached.
        """
        model = await self.model()
        rng = random.Random(f"gate {self._options.seed}")
        questions = [(place, arm) for place in range(len(prompts)) for arm in rng.sample(ARMS, len(ARMS))]
        # A window of a few prompts: both answers to one are given under about the same load.
        queue = iter(questions)
        found: dict[tuple[int, Arm], ArmAnswer] = {}
        refused: dict[int, str] = {}

        async def work() -> None:
            for place, arm in queue:
                if place not in refused:
                    try:
                        found[place, arm] = await self._ask(prompts[place], arm, adapters[arm], model)
                    except _PromptRefused as error:
                        refused[place] = str(error)
                on_answer(len(found) + 2 * len(refused), len(questions))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._options.concurrency, len(questions))):
                    group.create_task(work())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return Evaluation(
            tuple(
                AskedPair(prompt, found[place, "champion"], found[place, "challenger"])
                for place, prompt in enumerate(prompts)
                if place not in refused
            ),
            len(refused),
            next(iter(refused.values()), None),
        )

    async def _ask(self, prompt: HeldOutPrompt, arm: Arm, adapter: str | None, model: str) -> ArmAnswer:
        body: dict[str, Any] = {
            "model": model,
            "messages": [dict(turn) for turn in prompt.messages],
            "seed": seed_of(prompt, self._options.seed),
        }
        if prompt.controls:
            body["controls"] = prompt.controls
        if self._options.max_tokens is not None:
            body["max_tokens"] = self._options.max_tokens
        try:
            response, seconds = await self._send("POST", "/v1/chat/completions", body, {ARM_HEADER: arm})
        except httpx.HTTPError as error:
            return _failed(f"{type(error).__name__}: {error}")
        if response.status_code == HTTPStatus.OK:
            try:
                return read_answer(response.json(), arm, adapter, seconds)
            except (ValueError, LookupError, TypeError) as error:
                return _failed(f"no completion: {error!r}")
        if response.status_code in _REFUSED:
            message, param = _error_of(response)
            if param == ARM_HEADER:
                raise Conflict(f"The service has no {arm} to ask any more: {message} {_MOVED}")
            raise _PromptRefused(message)
        if response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR and response.status_code not in _BUSY:
            raise _fatal(response)
        return _failed(f"status {response.status_code}: {_error_of(response)[0]}")

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> tuple[httpx.Response, float]:
        """The response, and the seconds of the try that gave it; waits while the service is busy.

        Raises:
            Unavailable: Nobody listens there.
            httpx.HTTPError: The try failed in another way.
        """
        began = self._clock()
        while True:
            asked = self._clock()
            try:
                response = await self._client.request(
                    method, path, json=body, headers=dict(headers), timeout=self._options.timeout_s
                )
            except httpx.ConnectError as error:
                raise Unavailable(
                    f"The service at {self._client.base_url} cannot be reached ({error}); start it, or give its "
                    "address: --url http://127.0.0.1:8000"
                ) from error
            seconds = self._clock() - asked
            wait = _retry_after(response)
            if response.status_code not in _BUSY or self._clock() - began + wait > self._options.max_wait_s:
                return response, seconds
            await self._sleep(wait)


def read_answer(body: Mapping[str, Any], arm: Arm, adapter: str | None, seconds: float) -> ArmAnswer:
    """Return what a chat completion says. Pure.

    It passed if the model's first text was delivered as it was: outcome ``pass`` at the first attempt, so no check had
    more than a note to say. An answer that was mended or written again may be as good, but that is the graph's work,
    and whether there was a regeneration left to spend is chance. It is a refusal if it was blocked, or if the check
    ``refusal`` found nothing else in it.

    Args:
        body: With one choice.
        arm: What was asked for.
        adapter: What it must be served by; None: the base model alone.
        seconds: From asking to the whole answer.

    Raises:
        Conflict: It comes from another arm or adapter.
        ValueError, LookupError, TypeError: It is no completion of this service.
    """
    told = body["rheostat"]
    if (told.get("arm"), told.get("adapter")) != (arm, adapter):
        raise Conflict(
            f"The {arm} is {_name(adapter)}, and the service answered as {told.get('arm')} with "
            f"{_name(told.get('adapter'))}. {_MOVED}"
        )
    quality, choice = told["quality"], body["choices"][0]
    text = choice["message"]["content"]
    if not isinstance(text, str):
        raise TypeError(f"the answer is {text!r}")
    tokens = body["usage"]["completion_tokens"] + told.get("discarded_tokens", 0)
    findings = quality["findings"]
    blocked = quality["outcome"] == "blocked"
    facts = AnswerFacts(
        passed=quality["outcome"] == "pass"
        and told["attempts"] == 1
        and all(finding["action"] == "note" for finding in findings),
        refused=blocked
        or choice["message"].get("refusal") is not None
        or any(finding["check"] == "refusal" for finding in findings),
        words=count_words(text),
        token_s=seconds / tokens if tokens else None,
        control_fit=quality["scores"].get("control_fit"),
    )
    return ArmAnswer(text, facts, quality["score"])


def seed_of(prompt: HeldOutPrompt, seed: int) -> int:
    """Return the sampling seed of a prompt, the same for both arms: 31 bits of a hash."""
    return int.from_bytes(hashlib.sha256(f"{seed} {prompt.prompt_id}".encode()).digest()[:4]) >> 1


async def judge_pair(pair: AskedPair, judge: Judge) -> PairedOutcome:
    """Return who won. An answer wins over none, and is tied with an equal one, whoever judges."""
    champion, challenger = pair.champion, pair.challenger
    verdicts: tuple[Verdict, Verdict] = ("tie", "tie")
    if champion.failure is None and challenger.failure is None:
        if champion.text != challenger.text:
            verdicts = await judge.compare(pair.prompt.question, champion, challenger)
    elif champion.failure is None:
        verdicts = ("champion", "champion")
    elif challenger.failure is None:
        verdicts = ("challenger", "challenger")
    return PairedOutcome(pair.prompt.prompt_id, champion.facts, challenger.facts, *verdicts)


def _failed(why: str) -> ArmAnswer:
    return ArmAnswer("", AnswerFacts(passed=False, refused=False, words=0), None, why[:500])


def _fatal(response: httpx.Response) -> RheostatError:
    """What asking again, or asking something else, would not mend."""
    message = f"{response.url} answered {response.status_code}: {_error_of(response)[0]}"
    match response.status_code:
        case HTTPStatus.UNAUTHORIZED:
            return Unauthenticated(f"{message} Put a key of an admin tenant into a variable and name it: --key-env")
        case HTTPStatus.FORBIDDEN:
            return PermissionDenied(
                f"{message} The gate chooses arms, which takes the key of an admin tenant: --key-env"
            )
        case _:
            return Unavailable(message) if response.status_code >= 500 else InternalError(message)


def _error_of(response: httpx.Response) -> tuple[str, str | None]:
    """(message, param) of OpenAI's error object, or the body's beginning."""
    try:
        error = response.json()["error"]
        return str(error["message"]), error.get("param")
    except (ValueError, LookupError, TypeError, AttributeError):
        return response.text[:200], None


def _retry_after(response: httpx.Response) -> float:
    told = response.headers.get("retry-after", "")
    return float(told) if told.isdigit() else 1.0


def _name(adapter: str | None) -> str:
    return "the base model" if adapter is None else f"the adapter {adapter}"
