"""Judges texts that a caller sends, with the pool and the policy that judge answers. Keeps nothing of them.

The checks are told what they would be told of an answer: the context is made by the same code as a chat request's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson

from deployments.controls.compiler import compile_controls
from deployments.controls.hint import did_you_mean, shown
from deployments.controls.request import ControlsRequest, resolve
from deployments.controls.schema_guard import check_schema
from deployments.ingress.admission import Admission
from deployments.ingress.places import Ticket
from deployments.ingress.planning import Caller, ServiceFacts, ask_for_json, check_context
from deployments.ingress.telemetry import Telemetry
from deployments.ingress.validation_schema import MAX_TEXT_BYTES, ValidationBatch, ValidationItem
from graph.contracts import CheckContext, Message, ValidationJob, Verdict
from graph.errors import DeadlineExceeded, InvalidRequest, RequestTooLarge, RheostatError, Unavailable
from graph.pipeline import Clock
from graph.quality import quality_of_verdict
from graph.settings import IngressTunables

JUDGED_AT_ONCE = 8
"""Texts of one batch that are in the pool together: an answer waits behind these and not behind the whole batch."""
MAX_SCHEMAS = 8
"""Different ones in a batch: to check one takes up to 0.2 s of the event loop's time."""
_ANY_CONTEXT = 1 << 30
"""Tokens; limits on length play no part in a judgement."""


class ValidationService:
    """Answers ``POST /v1/validate``.

    Args:
        judge: The pool; raises a RheostatError when it cannot.
        facts: Read anew for each request.
        admission: Shared with the chat service.
    """

    def __init__(
        self,
        judge: Callable[[ValidationJob], Awaitable[Verdict]],
        facts: Callable[[], ServiceFacts],
        telemetry: Telemetry,
        admission: Admission,
        clock: Clock,
    ) -> None:
        self._judge = judge
        self._facts = facts
        self._telemetry = telemetry
        self._admission = admission
        self._clock = clock

    async def answer(
        self, asked: ValidationItem | ValidationBatch, caller: Caller, timeout_s: float | None
    ) -> dict[str, Any]:
        """The body of the answer. Of a batch, all texts are judged or none.

        Args:
            timeout_s: The caller's own limit; None: the service's.

        Raises:
            InvalidRequest, RequestTooLarge: Of a batch, ``param`` begins with ``items.N``.
            Overloaded: Too much is going on.
            Unavailable: The pool did not judge the texts in ``judge_timeout_s``.
            DeadlineExceeded: Nor in the caller's own, shorter time, in which the request may have waited too.
        """
        items = (asked,) if isinstance(asked, ValidationItem) else tuple(asked.items)
        facts = self._facts()
        at_once = min(len(items), JUDGED_AT_ONCE, facts.tunables.max_inflight_choices)
        limit_s = facts.tunables.request_timeout_s
        time_s = limit_s if timeout_s is None else min(limit_s, timeout_s)
        arrived = self._clock.now()
        async with self._admission.admit(Ticket(caller.tenant, caller.priority, at_once, arrived, arrived + time_s)):
            started = self._clock.now()
            jobs = await _plan(asked, items, facts)
            verdicts = await self._judge_all(jobs, at_once, started, arrived + time_s, facts.tunables)
        told = [_judgement(verdict) for verdict in verdicts]
        for judgement in told:
            self._telemetry.validated(judgement["quality"]["outcome"])
        return told[0] if isinstance(asked, ValidationItem) else {"data": told}

    async def _judge_all(
        self,
        jobs: Sequence[ValidationJob],
        at_once: int,
        started: float,
        deadline: float,
        tunables: IngressTunables,
    ) -> list[Verdict]:
        room = asyncio.Semaphore(at_once)

        async def judge(job: ValidationJob) -> Verdict:
            async with room:
                return await self._judge(job)

        late_at = started + tunables.judge_timeout_s
        try:
            async with (
                self._clock.timeout_at(min(deadline, late_at)),
                asyncio.TaskGroup() as group,
            ):
                tasks = [group.create_task(judge(job)) for job in jobs]
        except TimeoutError:
            if deadline < late_at:
                raise DeadlineExceeded(
                    f"The texts were not judged within {deadline - started:.3g} s; allow more time, or send fewer or "
                    "shorter."
                ) from None
            raise Unavailable(
                f"The validator pool did not judge the texts within {tunables.judge_timeout_s:g} s; try again in a few "
                "seconds, or send fewer or shorter.",
                code="late_verdict",
            ) from None
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]


async def _plan(
    asked: ValidationItem | ValidationBatch, items: Sequence[ValidationItem], facts: ServiceFacts
) -> list[ValidationJob]:
    jobs = []
    accepted: set[bytes] = set()
    for index, item in enumerate(items):
        try:
            _check_bounds(item, accepted)
            jobs.append(ValidationJob(item.text, _context(item, facts)))
        except (InvalidRequest, RequestTooLarge) as error:
            raise error if asked is item else _in_batch(error, index) from None
        # Streams of others go on between two texts.
        await asyncio.sleep(0)
    return jobs


def _check_bounds(item: ValidationItem, accepted: set[bytes]) -> None:
    """Refuses texts and schemas that would keep the pool busy for too long; ``accepted`` grows by the item's schema."""
    for name, text in (("text", item.text), ("prompt", item.prompt), ("system", item.system)):
        size_bytes = len((text or "").encode())
        if size_bytes > MAX_TEXT_BYTES:
            raise RequestTooLarge(
                f"{name}: has {size_bytes} bytes in UTF-8; at most {MAX_TEXT_BYTES}. Send the parts of a longer text "
                "as several items.",
                param=name,
            )
    if item.schema_ is None:
        return
    try:
        written = orjson.dumps(item.schema_)
    except orjson.JSONEncodeError:
        written = b""  # deeper than orjson writes, and so than check_schema allows
    # A batch mostly has the same one many times.
    if written in accepted:
        return
    if len(accepted) >= MAX_SCHEMAS:
        raise InvalidRequest(
            f"schema: is one more than the {MAX_SCHEMAS} different ones that a batch may have; send several batches.",
            param="schema",
        )
    check_schema(item.schema_, at="schema")
    accepted.add(written)


def _context(item: ValidationItem, facts: ServiceFacts) -> CheckContext:
    controls = item.controls or ControlsRequest()
    if item.language is not None:
        controls = _ask_for_language(controls, item.language, facts)
    if item.schema_ is not None:
        controls = ask_for_json(controls, "schema")
    system = () if item.system is None else (Message("system", item.system),)
    messages = (*system, Message("user", item.prompt or ""))
    compiled = compile_controls(
        resolve(facts.catalogue, controls, facts.capabilities, facts.calibration),
        facts.catalogue,
        messages,
        json_schema=item.schema_,
        max_context=_ANY_CONTEXT,
    )
    return check_context(messages, compiled, facts.calibration, finish_reason=item.finish_reason or "stop")


def _ask_for_language(controls: ControlsRequest, code: str, facts: ServiceFacts) -> ControlsRequest:
    switch = facts.catalogue.ls.get("language")
    known = [] if switch is None else [name for name in switch.values if name != "auto"]
    if code not in known:
        raise InvalidRequest(
            f"language: got {shown(code)}; must be the ISO 639-1 code of a language that is served: "
            f"{', '.join(known) or 'there is none'}.{did_you_mean(code, known)}",
            param="language",
        )
    if controls.ls.get("language", code) != code:
        raise InvalidRequest(
            f"language is {code!r} and controls.ls.language {shown(controls.ls['language'])}; send one of them.",
            param="language",
        )
    return controls.model_copy(update={"ls": {**controls.ls, "language": code}})


def _in_batch(error: RheostatError, index: int) -> RheostatError:
    where = f"items.{index}"
    param = where if error.param is None else f"{where}.{error.param}"
    return type(error)(f"{where}: {error.message}", param, error.code)


def _judgement(verdict: Verdict) -> dict[str, Any]:
    """``fixed_text`` only where a local fix changed something, and never of a text that may not be shown."""
    quality = quality_of_verdict(verdict)
    if verdict.fixed_text is None or quality["outcome"] == "blocked":
        return {"quality": quality}
    return {"quality": quality, "fixed_text": verdict.fixed_text}
