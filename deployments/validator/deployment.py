"""The Validator deployment: the CPU pool that judges texts. The judging itself is ``policy.judge``."""

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ray import serve

from deployments.validator.checks import load_models, relevance
from deployments.validator.checks.model_score import is_measurable, premise_of
from deployments.validator.model_slots import NOT_LOADED, Asked, SlotModel, load_slots, score_all
from deployments.validator.policy import ModelSlot, QualityPolicy, judge, load_policy, parse_policy
from deployments.validator.relevance_model import RelevanceModel, should_measure
from deployments.validator.worker import Worker
from graph.contracts import CheckContext, ValidationJob, Verdict
from graph.errors import Unavailable
from graph.settings import AppArgs, ValidatorTunables, project_path

logger = logging.getLogger(__name__)
MAX_SLOT_BATCH = 4
"""Texts that a slot's model reads together. A model of 100M parameters takes half a second for each on one core, and
all of a batch have to be done in MODEL_TIMEOUT_S."""
SLOT_WAIT_S = 0.002
"""A fraction of that; answers that end together are read together."""
MODEL_TIMEOUT_S = 5.0
"""Then the check of a model has failed: the other checks' verdict has to be there before the ingress gives up
(``judge_timeout_s``, 10 s)."""
STUCK_AFTER_S = 30.0
"""A judgement takes milliseconds and a model's pass some seconds; nobody waits for either after 10 s."""


def read_policy(args: AppArgs, override: dict[str, Any] | None) -> QualityPolicy:
    """The policy in force: the one given in ``user_config``, else the file of ``args``."""
    if override is not None:
        return parse_policy(override, name_policy(args, override))
    return load_policy(project_path(args.quality_file))


def name_policy(args: AppArgs, override: dict[str, Any] | None) -> str:
    """Where that policy stands, for error messages."""
    return str(project_path(args.quality_file)) if override is None else "user_config.quality"


@dataclass(frozen=True, slots=True)
class _InForce:
    """What a judgement goes by, swapped as a whole."""

    policy: QualityPolicy = field(default_factory=QualityPolicy)
    slots: Mapping[str, tuple[ModelSlot, SlotModel | None]] = field(default_factory=dict)
    """The enabled ones; None: the model could not be loaded."""


@serve.deployment(
    name="Validator",
    max_ongoing_requests=64,
    max_queued_requests=1024,
    health_check_period_s=5,
    graceful_shutdown_timeout_s=30,
    graceful_shutdown_wait_loop_s=1,
)
class Validator:
    """Shell of ``judge``. A policy, check or required model that cannot load stops start-up."""

    def __init__(self, args: dict[str, Any]) -> None:
        self._args = AppArgs.model_validate(args)
        load_models()
        # One thread each: checks are pure Python, and a long one must not hold up the loop that health checks run on.
        self._judges = Worker("judge")
        self._models = Worker("models")
        self._relevance: RelevanceModel | None = None
        self._has_started = False
        self._in_force = self._load(None, _InForce())

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve's. Blocks in a thread of its own while models load; texts are judged by the old policy meanwhile."""
        try:
            self._in_force = self._load(ValidatorTunables.model_validate(user_config).quality, self._in_force)
        except Exception:
            # A running replica that raises here is stopped, its successors cannot start, and the pool would be gone.
            if not self._has_started:
                raise
            logger.exception("the new user_config is refused; the policy before it stays in force")

    async def check_health(self) -> None:
        """Serve's. The first one ends start-up. One that raises three times in a row has the replica replaced.

        A thread that holds the interpreter's lock keeps this from being called at all, which Serve notices too.
        """
        self._has_started = True
        for worker, work in ((self._judges, "judgement"), (self._models, "pass of a model")):
            if worker.busy_s() > STUCK_AFTER_S:
                raise RuntimeError(f"a {work} has been running for {worker.busy_s():.0f} s")

    async def judge(self, job: ValidationJob) -> Verdict:
        if self._judges.busy_s() > STUCK_AFTER_S:
            raise Unavailable("The validator is stuck and will be replaced; try again in a minute.", code="not_ready")
        in_force = self._in_force
        context = await self._measure(job.text, job.context, in_force)
        return await self._judges.run(judge, job.text, context, in_force.policy)

    async def _measure(self, text: str, context: CheckContext, in_force: _InForce) -> CheckContext:
        """The context with what the models say of the text, or why they say nothing."""
        asked: dict[str, Awaitable[float]] = {}
        unmeasured: dict[str, str] = {}
        policy = in_force.policy
        nearness = self._relevance if policy.of(relevance.NAME).enabled else None
        if nearness is not None and should_measure(text, context, policy.thresholds):
            asked[relevance.NAME] = self._models.run(nearness.cosine, context.prompt, text)
        for name, (slot, model) in in_force.slots.items():
            if model is None:
                unmeasured[name] = NOT_LOADED
            elif is_measurable(slot.kind, text, context):
                asked[name] = self._ask((model, premise_of(context), text))
        numbers = await asyncio.gather(*(_in_time(name, number) for name, number in asked.items()))
        told = dict(zip(asked, numbers, strict=True))
        unmeasured |= {name: number for name, number in told.items() if isinstance(number, str)}
        scores = {name: number for name, number in told.items() if not isinstance(number, str)}
        cosine = scores.pop(relevance.NAME, None)
        return replace(context, relevance=cosine, model_scores=scores, unmeasured=unmeasured)

    async def _ask(self, asked: Asked) -> float:
        score = await self._score(asked)
        if isinstance(score, Exception):
            raise score
        return score

    @serve.batch(max_batch_size=MAX_SLOT_BATCH, batch_wait_timeout_s=SLOT_WAIT_S)
    async def _score(self, asked: Sequence[Asked]) -> list[float | Exception]:
        return await self._models.run(score_all, list(asked), self._models.beat)

    def _measures_relevance(self, policy: QualityPolicy) -> bool:
        # What a simulated engine says is about nothing.
        return policy.of(relevance.NAME).enabled and self._args.engine.kind != "simulated"

    def _load(self, override: dict[str, Any] | None, before: _InForce) -> _InForce:
        """Blocks for some seconds where a model has to be loaded."""
        policy = read_policy(self._args, override)
        if self._measures_relevance(policy) and self._relevance is None:
            self._relevance = RelevanceModel()
        return _InForce(policy, load_slots(policy.models, name_policy(self._args, override), before.slots))


async def _in_time(name: str, measuring: Awaitable[float]) -> float | str:
    """The number, or why there is none: a model that fails must not cost the other checks their verdict."""
    try:
        async with asyncio.timeout(MODEL_TIMEOUT_S):
            return await measuring
    except Exception as error:
        logger.exception("%s failed", name)
        return type(error).__name__
