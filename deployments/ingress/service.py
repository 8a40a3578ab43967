"""What the routes call: admission, one life per choice, and the answer as JSON or as frames. No HTTP, no Ray."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from deployments.controls.receipt import complete_receipt
from deployments.feedback.tokens import SigningKey, TokenClaims, hash_rater, sign
from deployments.formatter.contraction_stream import ContractionStream
from deployments.formatter.contractions import expand
from deployments.formatter.plain_stream import PlainStream
from deployments.formatter.stream_chain import StreamChain
from deployments.ingress.admission import Admission
from deployments.ingress.envelopes import (
    DONE,
    ChunkWriter,
    CompletionHead,
    completion,
    error_body,
    frame,
    usage_json,
)
from deployments.ingress.openai_schema import ChatRequest
from deployments.ingress.places import Ticket
from deployments.ingress.planning import Caller, Planned, ServiceFacts, drafts_asked, plan_request
from deployments.ingress.quality_tally import QualityTally
from deployments.ingress.telemetry import RequestFacts, Telemetry
from deployments.ingress.undelivered import AppendMany, UndeliveredMarks, WatchedStages
from deployments.rollout.aliases import Aliases
from deployments.validator.guard import StreamGuard
from graph.best_of import BestOf
from graph.contracts import CheckContext, EngineInfo
from graph.errors import InvalidRequest, RheostatError, as_rheostat_error
from graph.ids import new_id
from graph.lifecycle import RequestLife, TextStream
from graph.moves import Answer, End, Plan, Release
from graph.pipeline import Clock, Stages, Timings, live
from graph.quality import quality_of
from graph.regeneration_budget import RegenerationBudgets

logger = logging.getLogger(__name__)
VERSION = "0.1.0"
UNDELIVERED_WAIT_S = 0.1
"""How long a failed request waits until its recorded answers are marked; the marking itself goes on."""


class StreamCut(Exception):
    """Raised after an error frame, so that the connection closes uncleanly: a cut answer must never look whole."""


class WallClock:
    """The event loop's clock."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def timeout_at(self, when: float) -> asyncio.Timeout:
        return asyncio.timeout_at(when)


@dataclass(frozen=True, slots=True)
class _Running:
    """One choice while it is being made."""

    plan: Plan
    tenant: str
    life: RequestLife
    timings: Timings
    stages: WatchedStages
    best_of: BestOf | None
    """Below ``stages``; None: one draft was asked for."""


class ChatService:
    """Answers chat requests.

    Args:
        stages: The other deployments.
        facts: Read anew for each request, so that a new configuration applies to the next one.
        engine_info: Raises Unavailable while no generator is up.
        token_key: Signs feedback tokens, and makes pseudonyms of the persons who ask.
        append_many: Puts rows into the log; an outcome a row.
        admission: Shared with whatever else takes up the pools.
        tally: Counts every whole answer.
        aliases: Which adapters are served now.
    """

    def __init__(
        self,
        stages: Stages,
        facts: Callable[[], ServiceFacts],
        engine_info: Callable[[], Awaitable[EngineInfo]],
        token_key: SigningKey,
        telemetry: Telemetry,
        append_many: AppendMany,
        admission: Admission,
        tally: QualityTally,
        clock: Clock | None = None,
        aliases: Callable[[], Aliases] = Aliases,
    ) -> None:
        self._stages = stages
        self._facts = facts
        self._engine_info = engine_info
        self._token_key = token_key
        self._telemetry = telemetry
        self._undelivered = UndeliveredMarks(append_many)
        self._admission = admission
        self._tally = tally
        self._regenerations = RegenerationBudgets()
        self._clock = clock or WallClock()
        self._aliases = aliases

    async def complete(self, request: ChatRequest, caller: Caller, timeout_s: float | None) -> dict[str, Any]:
        """A whole chat completion; raises a RheostatError instead of a partial one."""
        ticket = self._ticket(request, caller, timeout_s)
        async with self._admission.admit(ticket):
            planned, engine = await self._plan(request, caller, ticket)
            lives = self._start(planned, caller, ticket)
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._finish(running)) for running in lives]
            except ExceptionGroup as failures:
                if marking := self._mark_undelivered(lives, caller):
                    await asyncio.wait({marking}, timeout=UNDELIVERED_WAIT_S)
                raise failures.exceptions[0] from None
            except asyncio.CancelledError:
                # The client is gone.
                self._mark_undelivered(lives, caller)
                raise
            answers = [task.result() for task in tasks]
            vendor = [
                self._vendor(planned, running, answer, caller, engine)
                for running, answer in zip(lives, answers, strict=True)
            ]
            return completion(_head(planned, engine), answers, vendor)

    async def stream(
        self, request: ChatRequest, caller: Caller, timeout_s: float | None
    ) -> AsyncGenerator[bytes, None]:
        """The frames of a streamed completion.

        An error before the first frame is raised as it is, for it can still become a status; later it becomes an
        error frame and then StreamCut.
        """
        ticket = self._ticket(request, caller, timeout_s)
        async with self._admission.admit(ticket):
            planned, engine = await self._plan(request, caller, ticket)
            lives = self._start(planned, caller, ticket)
            options = request.stream_options
            wants_usage = options is not None and options.include_usage
            continuous = options is not None and options.continuous_usage_stats
            chunks = ChunkWriter(_head(planned, engine), null_usage=wants_usage)
            answers: list[Answer] = []
            has_started = False
            async with aclosing(self._merged(lives)) as moves:
                async for index, move in moves:
                    match move:
                        case Release(text, logprobs):
                            usage = usage_json([lives[index].life.usage]) if continuous else None
                            has_started = True
                            yield chunks.text(index, text, logprobs, usage)
                        case End(answer=Answer() as answer):
                            answers.append(answer)
                            has_started = True
                            vendor = self._vendor(planned, lives[index], answer, caller, engine)
                            yield chunks.finish(index, answer, vendor)
                        case End(error=RheostatError() as error):
                            if not has_started:
                                raise error
                            yield frame(error_body(error))
                            raise StreamCut(error.code)
            if wants_usage:
                yield chunks.usage(usage_json([answer.usage for answer in answers]))
            yield DONE

    def _ticket(self, request: ChatRequest, caller: Caller, timeout_s: float | None) -> Ticket:
        """A place a draft. What can never be served is refused as that, however busy it is."""
        tunables, arrived = self._facts().tunables, self._clock.now()
        drafts = drafts_asked(request, tunables)
        count, limit_s = request.choices * drafts, tunables.request_timeout_s
        if count > tunables.max_inflight_choices:
            raise InvalidRequest(
                f"n={request.choices} with {drafts} drafts of each choice asks for {count} answers at once; this "
                f"service makes at most {tunables.max_inflight_choices} at a time, so ask for fewer.",
                param="n" if request.choices > 1 else "quality.best_of",
            )
        deadline = arrived + (limit_s if timeout_s is None else min(limit_s, timeout_s))
        return Ticket(caller.tenant, caller.priority, count, arrived, deadline)

    async def _plan(self, request: ChatRequest, caller: Caller, ticket: Ticket) -> tuple[Planned, EngineInfo]:
        facts = self._facts()
        now = self._clock.now()
        engine = await self._engine_info()
        person = request.user or request.safety_identifier
        planned = plan_request(
            request,
            caller,
            facts,
            engine,
            tuple(new_id() for _ in range(request.choices)),
            now,
            ticket.deadline - now,
            hash_rater(person, caller.tenant, self._token_key) if person else None,
            self._aliases(),
        )
        return planned, engine

    def _start(self, planned: Planned, caller: Caller, ticket: Ticket) -> list[_Running]:
        """A life a choice."""
        facts = self._facts()
        context = _guarded_context(planned.plans[0])  # the choices share it
        return [self._start_one(plan, caller, facts, context, ticket) for plan in planned.plans]

    def _start_one(
        self, plan: Plan, caller: Caller, facts: ServiceFacts, context: CheckContext, ticket: Ticket
    ) -> _Running:
        policy = facts.policy
        life = RequestLife(
            plan,
            lambda: StreamGuard(context, policy),
            _make_rendering(plan),
            expand,
            policy.closed_beyond_guard,
            self._regenerations.of(caller.tenant, policy.regenerations_per_answer),
        )
        judge_timeout_s = facts.tunables.judge_timeout_s
        best_of = BestOf(self._stages, plan, self._clock, judge_timeout_s) if plan.best_of > 1 else None
        stages = WatchedStages(best_of or self._stages)
        timings = Timings(ticket.arrived, marks={"waiting": ticket.decided_at - ticket.arrived})
        return _Running(plan, caller.tenant, life, timings, stages, best_of)

    def _mark_undelivered(self, lives: list[_Running], caller: Caller) -> asyncio.Task[None] | None:
        recorded = [each.plan.job.generation_id for each in lives if each.stages.is_recorded]
        return self._undelivered.start(recorded, caller.tenant)

    async def _moves(self, running: _Running) -> AsyncGenerator[Release | End, None]:
        """One life to its end, observed."""
        end: End | None = None
        judge_timeout_s = self._facts().tunables.judge_timeout_s
        stream = live(running.life, running.plan, running.stages, self._clock, running.timings, judge_timeout_s)
        try:
            async with aclosing(stream) as moves:
                async for move in moves:
                    if isinstance(move, End):
                        end = move
                    yield move
        finally:
            untold_tokens = running.best_of.untold_tokens if running.best_of else 0
            self._telemetry.observe(RequestFacts.of(running.plan, running.life, end, running.timings, untold_tokens))
            if end is not None and end.answer is not None:
                self._tally.add(running.tenant, end.answer)

    async def _finish(self, running: _Running) -> Answer:
        async with aclosing(self._moves(running)) as moves:
            async for move in moves:
                if isinstance(move, End):
                    if move.answer is not None:
                        return move.answer
                    assert move.error is not None
                    raise move.error
        raise AssertionError("a life ended without an End")

    async def _merged(self, lives: list[_Running]) -> AsyncGenerator[tuple[int, Release | End], None]:
        """The moves of all choices as they come; stops at the first error."""
        if len(lives) == 1:
            async with aclosing(self._moves(lives[0])) as moves:
                async for move in moves:
                    yield 0, move
            return
        queue: asyncio.Queue[tuple[int, Release | End]] = asyncio.Queue(maxsize=64)

        async def pump(index: int, running: _Running) -> None:
            try:
                async with aclosing(self._moves(running)) as moves:
                    async for move in moves:
                        await queue.put((index, move))
            except Exception as error:
                # A bug: told to whoever waits at the queue, or the stream would wait for ever.
                logger.exception("a choice failed")
                await queue.put((index, End("error", error=as_rheostat_error(error))))

        tasks = [asyncio.create_task(pump(index, running)) for index, running in enumerate(lives)]
        try:
            open_choices = len(tasks)
            while open_choices:
                index, move = await queue.get()
                open_choices -= isinstance(move, End)
                yield index, move
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _vendor(
        self, planned: Planned, running: _Running, answer: Answer, caller: Caller, engine: EngineInfo
    ) -> dict[str, Any]:
        """The ``rheostat`` object of one answer."""
        generation_id = running.plan.job.generation_id
        days = self._facts().tunables.feedback_token_days
        claims = TokenClaims(
            generation_id=generation_id,
            tenant=caller.tenant,
            model=engine.model,
            adapter=answer.adapter,
            arm=planned.arm,
            controls_hash=planned.controls_hash,
            expires_at=int(time.time()) + days * 86_400,
        )
        return {
            "generation_id": generation_id,
            "engine": engine.engine,
            "adapter": answer.adapter,
            "arm": planned.arm,
            "controls": complete_receipt(
                planned.compiled.receipt,
                answer.unrendered,
                planned.previous_answer,
                self._facts().calibration,
                planned.compiled.language,
            ),
            "quality": quality_of(answer),
            "feedback_token": sign(claims, self._token_key),
            "attempts": answer.attempts,
            "discarded_tokens": answer.usage.discarded_tokens,
            **({"best_of": running.best_of.to_json()} if running.best_of else {}),
        }


def _make_rendering(plan: Plan) -> Callable[[], TextStream] | None:
    """What released text goes through on its way; None: nothing."""
    steps: list[Callable[[], TextStream]] = []
    if plan.streaming and plan.expand_contractions:
        # Before the marks are taken out, which show what is code.
        steps.append(ContractionStream)
    if plan.streaming and plan.rendering == "text" and plan.answer_format != "json":
        # In JSON, ``*`` and ``_`` are the answer's own.
        steps.append(PlainStream)
    return (lambda: StreamChain(*(step() for step in steps))) if steps else None


def _guarded_context(plan: Plan) -> CheckContext:
    """What the guard knows. It sees the answer with its contractions written out, so it has to know the prompts that
    way too: a leak of "don't tell" would pass as "do not tell"."""
    context = plan.context
    if not plan.expand_contractions:
        return context
    return replace(
        context,
        system=f"{context.system}\n{expand(context.system)}",
        prompt=f"{context.prompt}\n{expand(context.prompt)}",
    )


def _head(planned: Planned, engine: EngineInfo) -> CompletionHead:
    return CompletionHead(
        id=f"chatcmpl-{planned.plans[0].job.generation_id}",
        created=int(time.time()),
        model=engine.model,
        system_fingerprint=f"rheostat-{VERSION}-{engine.engine}-{engine.version}",
    )
