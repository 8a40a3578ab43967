"""Several drafts of one answer at once, of which the best goes on: a decorator around the stages of a request.

The first attempt becomes ``Plan.best_of`` generations. Each is judged as soon as it is whole, so judging counts as time
of generating; the mildest verdict wins, then the highest score, then the first draft. ``graph/lifecycle.py`` sees one
attempt and one verdict, and decides what becomes of them; a regeneration stays a single one. For whole answers only:
nothing leaves before the choice is made. The chat service makes one for each choice that asks for it.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from graph.contracts import CheckContext, FormatJob, GenerationJob, LogAck, TokenDelta, ValidationJob, Verdict
from graph.errors import Unavailable
from graph.moves import Plan
from graph.pipeline import Clock, Stages, close_attempt, late_verdict
from graph.quality import worth

logger = logging.getLogger(__name__)
SEED_STEP = 1_000_003
"""Between the seeds of two drafts: beyond those of the other choices, and of callers who count their seeds up. No
multiple of a power of two: torch draws on CPUs from the lowest 32 bits of a seed."""
ONE_IS_MADE = "At temperature 0 all drafts would be equal; one was made."


def draft_jobs(job: GenerationJob, count: int) -> tuple[GenerationJob, ...]:
    """``count`` jobs for one answer, each with a seed of its own where ``job`` has one; the first is ``job`` itself.

    At temperature 0 there is only one: the others would be the same text.
    """
    seed = job.sampling.seed
    if job.sampling.temperature == 0:
        count = 1
    others = (
        replace(
            job,
            # Of its own too: by it an engine knows the request.
            generation_id=f"{job.generation_id}.{index}",
            sampling=replace(job.sampling, seed=None if seed is None else (seed + index * SEED_STEP) % 2**63),
        )
        for index in range(1, count)
    )
    return (job, *others)


@dataclass(slots=True)
class _Draft:
    """One of the generations. Its text is bounded by ``max_tokens``, and so is what is kept of it."""

    index: int
    job: GenerationJob
    pieces: list[str] = field(default_factory=list)
    tokens: int = 0
    logprobs: list[Mapping[str, Any]] = field(default_factory=list)
    last: TokenDelta | None = None
    verdict: Verdict | None = None
    judge_error: Exception | None = None

    def add(self, delta: TokenDelta) -> None:
        self.pieces.append(delta.text)
        self.tokens += delta.token_count
        self.logprobs.extend(delta.logprobs)
        self.last = delta

    @property
    def is_whole(self) -> bool:
        return self.last is not None and self.last.finish_reason is not None

    def to_judge(self, context: CheckContext) -> ValidationJob:
        assert self.last is not None
        return ValidationJob("".join(self.pieces), replace(context, finish_reason=self.last.finish_reason))

    def as_delta(self, discarded_tokens: int) -> TokenDelta:
        assert self.last is not None
        return replace(
            self.last,
            text="".join(self.pieces),
            token_count=self.tokens,
            logprobs=tuple(self.logprobs),
            discarded_tokens=discarded_tokens,
        )


class BestOf:
    """``graph.pipeline.Stages`` of one choice.

    * A draft that fails is left out as long as another one ends; when all fail, the first failure is raised.
    * At ``Plan.regenerate_until`` the drafts that still run are closed and the best of the whole ones is taken. When
      none is whole by then, the first that becomes it is.
    * A draft without a verdict (the pool failed, or was late) comes after all that have one.
    * When ``generate`` ends, however it does, no draft runs any more.

    Args:
        stages: What does the work.
        plan: With ``best_of``; its job is the first attempt.
        judge_timeout_s: After this a draft counts as not judged; ``regenerate_until`` may come first.
    """

    def __init__(self, stages: Stages, plan: Plan, clock: Clock, judge_timeout_s: float = 10.0) -> None:
        self._stages = stages
        self._plan = plan
        self._clock = clock
        self._judge_timeout_s = judge_timeout_s
        self._drafts: list[_Draft] = []
        self._failures: list[Exception] = []
        """In the order in which the drafts failed."""
        self._chosen: _Draft | None = None

    @property
    def untold_tokens(self) -> int:
        """What the drafts have cost while no delta has told it: all of it until one is chosen, then nothing."""
        return 0 if self._chosen is not None else sum(draft.tokens for draft in self._drafts)

    def to_json(self) -> dict[str, Any]:
        """``{"asked", "scores", "chosen"}`` for the caller and the log; only once a draft was chosen.

        ``scores`` has an entry a draft, rounded to four places; None: it failed, was not whole in time, or not judged.
        ``note`` says why fewer drafts were made than asked for.
        """
        assert self._chosen is not None
        scores = [None if draft.verdict is None else round(draft.verdict.score, 4) for draft in self._drafts]
        told: dict[str, Any] = {"asked": self._plan.best_of, "scores": scores, "chosen": self._chosen.index}
        return told if len(scores) == self._plan.best_of else {**told, "note": ONE_IS_MADE}

    def generate(self, job: GenerationJob) -> AsyncGenerator[TokenDelta, None]:
        """The best draft as one delta; of a later attempt, the deltas of the one generation."""
        return self._stages.generate(job) if job.attempt else self._generate_best(job)

    async def judge(self, job: ValidationJob) -> Verdict:
        """The verdict on the chosen draft is known, or known to be missing; another text goes to the pool."""
        chosen = self._chosen
        if chosen is None or job != chosen.to_judge(self._plan.context):
            return await self._stages.judge(job)
        if chosen.verdict is None:
            raise chosen.judge_error or late_verdict()
        return chosen.verdict

    async def format(self, job: FormatJob) -> str:
        return await self._stages.format(job)

    async def record(self, row: Mapping[str, Any]) -> LogAck:
        return await self._stages.record({**row, "best_of": self.to_json()})

    async def _generate_best(self, job: GenerationJob) -> AsyncGenerator[TokenDelta, None]:
        jobs = draft_jobs(job, self._plan.best_of)
        self._drafts = [_Draft(index, each) for index, each in enumerate(jobs)]
        # The group waits for every draft to be closed, even when this is cancelled again meanwhile.
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._run(draft)) for draft in self._drafts]
            await self._until_enough(set(tasks))
            for task in tasks:
                task.cancel()
        self._chosen = self._choose()
        yield self._chosen.as_delta(sum(draft.tokens for draft in self._drafts if draft is not self._chosen))

    async def _until_enough(self, running: set[asyncio.Task[None]]) -> None:
        with suppress(TimeoutError):
            async with self._clock.timeout_at(self._plan.regenerate_until):
                await asyncio.wait(running)
        while running and not any(draft.is_whole for draft in self._drafts):
            _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)

    async def _run(self, draft: _Draft) -> None:
        """One draft to its end and its verdict; raises nothing, for the others go on without it."""
        deltas = self._stages.generate(draft.job)
        try:
            async for delta in deltas:
                draft.add(delta)
                if draft.is_whole:
                    break
            else:
                raise RuntimeError("the engine ended without a finish reason")
        except Exception as error:  # noqa: BLE001 - raised again when no draft is whole
            logger.warning("draft %s failed: %s", draft.job.generation_id, type(error).__name__)
            self._failures.append(error)
            return
        finally:
            await close_attempt(deltas)
        limit = min(self._plan.regenerate_until, self._clock.now() + self._judge_timeout_s)
        try:
            async with self._clock.timeout_at(limit):
                draft.verdict = await self._stages.judge(draft.to_judge(self._plan.context))
        except TimeoutError:
            draft.judge_error = late_verdict()
        except Exception as error:  # noqa: BLE001 - raised again where the verdict is asked for
            draft.judge_error = error

    def _choose(self) -> _Draft:
        whole = [draft for draft in self._drafts if draft.is_whole]
        if not whole:
            raise self._failures[0] if self._failures else _dropped()
        # The first of equals, so that the choice does not hang on timing.
        return max(whole, key=_rank)


def _rank(draft: _Draft) -> tuple[bool, tuple[int, float]]:
    """The higher, the better."""
    return draft.verdict is not None, worth(draft.verdict) if draft.verdict else (0, 0.0)


def _dropped() -> Unavailable:
    """Every draft was cancelled, and not by us: a replica that is told to stop does that to what it works on."""
    return Unavailable("The generator dropped this request; try again in a few seconds.", code="not_ready")
