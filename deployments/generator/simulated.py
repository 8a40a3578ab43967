"""The simulated engine: no model, set timing, reproducible text. For tests, demonstrations and for measuring all
but the model. It says in its text and in its ``EngineInfo`` that it is simulated."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, field_validator

from deployments.generator.simulated_cache import BlockCache, SimulatedCache
from deployments.generator.simulated_capacity import Places, SimulatedCapacity, token_interval_s
from deployments.generator.simulated_grammar import write_in_grammar
from deployments.generator.simulated_prose import Prose
from deployments.generator.simulated_tokens import count_prompt_tokens, logprob_entry, split_tokens
from graph.contracts import EngineInfo, EngineLoad, FinishReason, GenerationJob, Sampling, TokenDelta
from graph.errors import ConfigurationError, InvalidRequest, Unavailable

__all__ = ["ScriptedAnswer", "SimulatedEngine", "SimulatedSettings"]

VERSION = "1"
_NATURAL_TOKENS = (40, 120)
"""How long a free answer gets by itself. With max_tokens below the smaller number it is cut, as a model's is."""
_PARAGRAPH_SENTENCES = 5


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScriptedAnswer(_Strict):
    """One answer, word for word. ``max_tokens`` and stop strings still cut it; ``min_tokens`` and ``ignore_eos``
    do not lengthen it."""

    text: str
    finish_reason: FinishReason | None = None
    """None: what really ended it."""
    fail_after_tokens: NonNegativeInt | None = None
    """Raise Unavailable after so many tokens. None, or an answer with no more than these: never."""
    hang_after_tokens: NonNegativeInt | None = None
    """Wait until closed or cancelled after so many tokens. None, or an answer with no more than these: never."""


class SimulatedSettings(_Strict):
    """How the simulated engine behaves."""

    first_token_s: NonNegativeFloat = 0.05
    """Seconds from the request to its first token."""
    token_s: NonNegativeFloat = 0.01
    """Seconds between tokens."""
    max_model_len: PositiveInt = 8192
    """Prompt and answer together, in tokens."""
    max_lora_rank: NonNegativeInt = 16
    """0: takes no adapters. One that it takes changes its text, by its name alone."""
    cache: SimulatedCache | None = None
    """A prefix cache, for what it finds: that is told as cached tokens, and needs no prefill. None: no cache."""
    start_s: NonNegativeFloat = 0.0
    """Seconds until it is started, as if it loaded a model."""
    capacity: SimulatedCapacity | None = None
    """What it can do at once. None: any number of requests, each at the pace of one."""
    script: dict[str, tuple[ScriptedAnswer, ...]] = Field(default_factory=dict)
    """What to answer when the last user message contains the key; the first key that fits wins. A value is a text,
    a ``ScriptedAnswer``, or a list of these: the first for attempt 0 and so on, the last for all further ones."""

    @field_validator("script", mode="before")
    @classmethod
    def _as_answers(cls, script: Any) -> Any:
        if not isinstance(script, dict):
            return script
        return {key: _as_answers(key, value) for key, value in script.items()}


class SimulatedEngine:
    """See ``deployments/generator/engine.py`` for the contract.

    Free text begins with ``simulated_prose.MARKER``. One token is one word piece, and one delta. The text depends
    on messages, grammar, adapter and ``seed``; without a seed on the generation id and attempt too. ``min_tokens``
    holds for free text only. Temperature, penalties, ``logit_bias`` and ``stop_token_ids`` do nothing.

    Args:
        settings: Timing, limits and scripted answers.
        model_id: The name that clients use.
        sleep: Awaited with seconds before each token, with 0 too, so that other tasks run; tests pass their own.
        clock: Seconds, never going back. An engine that is woken late does not become slower: its next tokens come as
            if it had been in time. None: for a ``sleep`` that is never late.
    """

    def __init__(
        self,
        settings: SimulatedSettings,
        *,
        model_id: str = "simulated",
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] | None = time.monotonic,
    ) -> None:
        self._settings = settings
        self._model_id = model_id
        self._sleep = sleep
        self._clock = clock
        self._is_alive = False
        self._adapters: set[str] = set()
        self._cache = None if settings.cache is None else BlockCache(settings.cache)
        self._places = None if settings.capacity is None else Places(settings.capacity)
        self._jobs: dict[object, int] = {}  # jobs under way, with the prompt tokens that wait for a first token

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(self._model_id, "simulated", self._settings.max_model_len, VERSION)

    async def start(self) -> None:
        if self._settings.start_s:
            await self._sleep(self._settings.start_s)
        self._is_alive = True

    async def add_adapter(self, name: str, path: str) -> None:
        """Takes any folder; what is in it does nothing but to change the text with the name."""
        if not self._settings.max_lora_rank:
            raise ConfigurationError("This engine takes no adapters; set engine.simulated.max_lora_rank.")
        self._adapters.add(name)

    async def remove_adapter(self, name: str) -> None:
        self._adapters.discard(name)

    async def generate(self, job: GenerationJob) -> AsyncGenerator[TokenDelta, None]:
        self._refuse_when_dead()
        prompt_tokens = count_prompt_tokens(job.messages)
        room = self._settings.max_model_len - prompt_tokens
        if room < 1:
            raise InvalidRequest(
                f"The prompt has {prompt_tokens} tokens; prompt and answer together may have "
                f"{self._settings.max_model_len}. Send fewer or shorter messages.",
                param="messages",
                code="context_length_exceeded",
            )
        if job.adapter not in self._adapters:
            job = replace(job, adapter=None)
        cached_tokens = 0 if self._cache is None else self._cache.find(job)
        key = object()
        self._jobs[key] = prompt_tokens
        place = None
        try:
            if self._places is not None:
                place = await self._places.take(prompt_tokens)
            scripted = self._scripted(job)
            rng = random.Random(_seed(job))
            tokens, finish_reason = _answer(job, scripted, room, rng)
            fail_after = scripted.fail_after_tokens if scripted else None
            hang_after = scripted.hang_after_tokens if scripted else None
            top_logprobs = job.sampling.top_logprobs
            is_scripted_to_stop = fail_after is not None or hang_after is not None
            if job.whole and place is None and not is_scripted_to_stop:
                # Nobody reads along, and a real engine tells of such an answer at its end too.
                pieces = [tokens or [""]]
            else:
                pieces = [[token] for token in tokens or [""]]
            due = self._clock() if self._clock else 0.0
            for at, piece in enumerate(pieces):
                if at == fail_after:
                    raise Unavailable("The simulated engine was told to fail here.")
                if at == hang_after:
                    await asyncio.Event().wait()
                pause_s = self._pause_s(at == 0, prompt_tokens - cached_tokens)
                pause_s += (len(piece) - 1) * self._settings.token_s
                due += pause_s
                await self._sleep(max(0.0, due - self._clock()) if self._clock else pause_s)
                self._refuse_when_dead()
                self._jobs[key] = 0
                if place is not None:
                    place.tokens += 1
                told = [] if top_logprobs is None or not tokens else piece
                yield TokenDelta(
                    text="".join(piece),
                    token_count=len(piece) if tokens else 0,
                    prompt_tokens=prompt_tokens,
                    cached_tokens=cached_tokens,
                    adapter=job.adapter,
                    finish_reason=finish_reason if at + 1 >= len(pieces) else None,
                    logprobs=tuple(logprob_entry(token, top_logprobs or 0, rng) for token in told),
                )
        finally:
            del self._jobs[key]
            if self._places is not None and place is not None:
                self._places.leave(place)

    async def check_health(self) -> None:
        self._refuse_when_dead()

    def load(self) -> EngineLoad:
        waiting, kv_usage = (0, 0.0) if self._places is None else (self._places.waiting, self._places.kv_usage)
        return EngineLoad(
            running_requests=len(self._jobs) - waiting,
            queued_tokens=sum(self._jobs.values()),
            waiting_requests=waiting,
            kv_usage=kv_usage,
        )

    def shutdown(self) -> None:
        self._is_alive = False

    def _refuse_when_dead(self) -> None:
        if not self._is_alive:
            raise Unavailable("The engine is not running; try again in a few seconds.", code="not_ready")

    def _pause_s(self, is_first: bool, prompt_tokens: int) -> float:
        """Before the next token; the first one comes after the prefill of so many prompt tokens."""
        capacity = self._settings.capacity
        if is_first:
            return self._settings.first_token_s + (capacity.prompt_token_s * prompt_tokens if capacity else 0.0)
        if self._places is None:
            return self._settings.token_s
        return token_interval_s(self._settings.token_s, self._places.capacity, self._places.running)

    def _scripted(self, job: GenerationJob) -> ScriptedAnswer | None:
        last = next((message.content for message in reversed(job.messages) if message.role == "user"), "")
        answers = next((answers for key, answers in self._settings.script.items() if key in last), None)
        return answers[min(job.attempt, len(answers) - 1)] if answers else None


def _as_answers(key: str, value: Any) -> Any:
    answers = value if isinstance(value, list | tuple) else [value]
    if not answers:
        raise ValueError(f"script[{key!r}] is an empty list; give at least one answer, which may be ''")
    return tuple({"text": answer} if isinstance(answer, str) else answer for answer in answers)


def _seed(job: GenerationJob) -> str:
    """random.Random hashes a string with SHA-512, so this holds across processes and machines."""
    chosen = (job.generation_id, job.attempt) if job.sampling.seed is None else (job.sampling.seed,)
    by = () if job.adapter is None else (job.adapter,)
    return repr((chosen, *by, [(message.role, message.content) for message in job.messages]))


def _answer(
    job: GenerationJob, scripted: ScriptedAnswer | None, room: int, rng: random.Random
) -> tuple[list[str], FinishReason]:
    """All tokens of the answer, and why it ends there."""
    sampling = job.sampling
    limit = room if sampling.max_tokens is None else min(room, sampling.max_tokens)
    prose = Prose(rng)
    finish_reason: FinishReason = "stop"
    if scripted is not None:
        tokens = split_tokens(scripted.text)
    elif job.grammar is not None:
        tokens = split_tokens(write_in_grammar(job.grammar, prose, rng))
    else:
        tokens = _free_tokens(sampling, limit, prose, rng)
    if len(tokens) > limit:
        tokens, finish_reason = tokens[:limit], "length"
    text = "".join(tokens)
    stop = _find_stop(text, sampling.stop, len("".join(tokens[: sampling.min_tokens])))
    if stop is not None:
        tokens, finish_reason = split_tokens(text[:stop]), "stop"
    return tokens, (scripted.finish_reason if scripted else None) or finish_reason


def _free_tokens(sampling: Sampling, limit: int, prose: Prose, rng: random.Random) -> list[str]:
    """A free answer's tokens: up to a sentence end near its goal, or beyond ``limit`` where it has to be cut."""
    goal = min(limit, rng.randint(*_NATURAL_TOKENS))
    is_endless = sampling.ignore_eos or limit < _NATURAL_TOKENS[0]
    tokens: list[str] = []
    for sentence in _sentences(prose):
        more = split_tokens(sentence)
        may_end = not is_endless and bool(tokens) and len(tokens) >= sampling.min_tokens
        if may_end and len(tokens) + len(more) > goal:
            return tokens
        tokens += more
        if len(tokens) > limit:
            return tokens
    raise AssertionError("prose does not end")


def _sentences(prose: Prose) -> Iterator[str]:
    yield prose.sentence()
    count = 1
    while True:
        yield ("\n\n" if count % _PARAGRAPH_SENTENCES == 0 else " ") + prose.sentence()
        count += 1


def _find_stop(text: str, stops: tuple[str, ...], start: int) -> int | None:
    """Where the first stop string begins that ends beyond ``start``, as min_tokens wants; None: nowhere."""
    found = [text.find(stop, max(0, start - len(stop) + 1)) for stop in stops if stop]
    return min((at for at in found if at >= 0), default=None)
