"""Of several drafts the best goes on; whatever the drafts do, there is one attempt, one verdict and nothing left."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_pipeline import VirtualClock
from test_request_life import WordGuard, make_plan

from deployments.ingress.openai_schema import MAX_BEST_OF, MAX_CHOICES
from graph.best_of import BestOf, draft_jobs
from graph.contracts import FinishReason, FormatJob, GenerationJob, LogAck, TokenDelta, ValidationJob, Verdict
from graph.errors import Unavailable
from graph.lifecycle import RequestLife
from graph.moves import Answer, End, Plan
from graph.pipeline import Timings, live

JOB = make_plan().job


@dataclass(frozen=True)
class Script:
    """What one generation does; two words are two tokens."""

    text: str
    verdict: Verdict | Exception = field(default_factory=lambda: Verdict("deliver"))
    token_s: float = 0.1
    judge_s: float = 0.0
    finish_reason: FinishReason | None = "stop"
    fails_after: int | None = None
    error: Exception = field(default_factory=lambda: Unavailable("no engine"))


def scored(action: Any, score: float, text: str = "", **options: Any) -> Script:
    return Script(text or f"{action} {score}", Verdict(action, score=score), **options)


class Drafting:
    """The stages: a script a draft, and one for the regeneration. No two texts are equal."""

    def __init__(self, clock: VirtualClock, drafts: tuple[Script, ...], second: Script) -> None:
        self.clock = clock
        self.drafts = drafts
        self.second = second
        self.jobs: list[GenerationJob] = []
        self.judged: list[ValidationJob] = []
        self.open = 0
        self.most_open = 0
        self.rows: list[Mapping[str, Any]] = []

    async def generate(self, job: GenerationJob) -> AsyncGenerator[TokenDelta, None]:
        index = int(job.generation_id.partition(".")[2] or 0)
        script = self.second if job.attempt else self.drafts[index]
        self.jobs.append(job)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            words = script.text.split(" ")
            for at, word in enumerate(words):
                await self.clock.sleep(script.token_s)
                if at == script.fails_after:
                    raise script.error
                last = at == len(words) - 1
                yield TokenDelta(
                    word if last else word + " ",
                    1,
                    7,
                    finish_reason=script.finish_reason if last else None,
                    logprobs=({"token": word},),
                )
        finally:
            self.open -= 1

    async def judge(self, job: ValidationJob) -> Verdict:
        self.judged.append(job)
        script = next(each for each in (*self.drafts, self.second) if each.text == job.text)
        await self.clock.sleep(script.judge_s)
        if isinstance(script.verdict, Exception):
            raise script.verdict
        return script.verdict

    async def format(self, job: FormatJob) -> str:
        return job.text

    async def record(self, row: Mapping[str, Any]) -> LogAck:
        self.rows.append(row)
        return LogAck("e", "s", 0)


@dataclass
class Ran:
    """A request after its end."""

    end: End
    stages: Drafting
    best_of: BestOf
    clock: VirtualClock
    life: RequestLife

    @property
    def answer(self) -> Answer:
        assert self.end.answer is not None, self.end.error
        return self.end.answer

    @property
    def told(self) -> dict[str, Any]:
        return self.best_of.to_json()


def make(*drafts: Script, second: Script | None = None, **changes: Any) -> tuple[VirtualClock, Plan, Drafting, BestOf]:
    clock = VirtualClock()
    times = {"deadline": 10.0, "regenerate_before": 5.0, "regenerate_until": 9.0}
    plan = make_plan(best_of=len(drafts), **{**times, **changes})
    stages = Drafting(clock, drafts, second or Script("second"))
    return clock, plan, stages, BestOf(stages, plan, clock, judge_timeout_s=2.0)


async def run(*drafts: Script, second: Script | None = None, **changes: Any) -> Ran:
    clock, plan, stages, best_of = make(*drafts, second=second, **changes)
    life = RequestLife(plan, WordGuard)

    async def to_its_end() -> End:
        async with aclosing(live(life, plan, best_of, clock, Timings(clock.now()), judge_timeout_s=2.0)) as moves:
            (end,) = [move async for move in moves]
        assert isinstance(end, End)
        return end

    end = await clock.run(to_its_end())
    assert stages.open == 0
    assert len(asyncio.all_tasks()) == 1
    return Ran(end, stages, best_of, clock, life)


async def test_the_mildest_action_wins_before_the_highest_score() -> None:
    ran = await run(scored("regenerate", 0.9), scored("block", 0.95), scored("deliver", 0.4), scored("fix", 0.8))
    assert ran.answer.text == "deliver 0.4"
    assert ran.told == {"asked": 4, "scores": [0.9, 0.95, 0.4, 0.8], "chosen": 2}


async def test_of_equal_actions_the_highest_score_wins() -> None:
    ran = await run(scored("deliver", 0.7), scored("deliver", 0.9), scored("deliver", 0.8))
    assert (ran.answer.text, ran.told["chosen"]) == ("deliver 0.9", 1)
    assert (ran.answer.outcome, ran.answer.score, ran.answer.attempts) == ("pass", 0.9, 1)


@pytest.mark.parametrize("seconds", [(0.1, 0.2, 0.3), (0.3, 0.2, 0.1), (0.2, 0.2, 0.2)])
async def test_of_equal_drafts_the_first_wins_whichever_ends_first(seconds: tuple[float, ...]) -> None:
    ran = await run(*(scored("deliver", 0.8, f"draft {n}", token_s=each) for n, each in enumerate(seconds)))
    assert ran.answer.text == "draft 0"


async def test_the_drafts_run_at_once_and_each_is_judged_as_it_ends() -> None:
    drafts = [scored("deliver", 0.5, f"one two {n}", token_s=0.1 * (n + 1), judge_s=0.3) for n in range(3)]
    ran = await run(*drafts)
    assert ran.stages.most_open == 3
    # The slowest: three tokens of 0.3 s and its verdict; the others were judged meanwhile.
    assert ran.clock.now() == pytest.approx(3 * 0.3 + 0.3)
    assert [job.text for job in ran.stages.judged] == ["one two 0", "one two 1", "one two 2"]


async def test_the_verdict_on_the_winner_is_not_asked_for_again() -> None:
    ran = await run(scored("deliver", 0.5), scored("deliver", 0.6))
    assert len(ran.stages.judged) == 2
    assert ran.answer.score == 0.6


async def test_a_draft_is_judged_by_how_it_ended() -> None:
    ran = await run(scored("deliver", 0.5, "cut off", finish_reason="length"), scored("deliver", 0.4, "all said"))
    judged_by = [(job.text, job.context.finish_reason) for job in ran.stages.judged]
    assert judged_by == [("cut off", "length"), ("all said", "stop")]
    assert ran.answer.finish_reason == "length"


async def test_the_winner_keeps_its_logprobs_and_the_losers_tokens_are_discarded_ones() -> None:
    ran = await run(
        scored("deliver", 0.5, "a b c d e"), scored("deliver", 0.9, "the best"), scored("fix", 1.0, "x y z")
    )
    assert [entry["token"] for entry in ran.answer.logprobs or ()] == ["the", "best"]
    usage = ran.answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.discarded_tokens) == (7, 2, 5 + 3)
    assert ran.best_of.untold_tokens == 0


async def test_the_log_row_has_what_the_caller_is_told() -> None:
    ran = await run(scored("deliver", 0.12345), scored("deliver", 0.5))
    (row,) = ran.stages.rows
    assert row["best_of"] == ran.told == {"asked": 2, "scores": [0.1235, 0.5], "chosen": 1}
    assert row["answer"] == "deliver 0.5"


# Seeds


def seeds_of(seed: int | None, count: int) -> list[int | None]:
    job = replace(JOB, sampling=replace(JOB.sampling, seed=seed))
    return [each.sampling.seed for each in draft_jobs(job, count)]


@pytest.mark.parametrize("seed", [0, 1, -(2**63), 2**63 - 1, 2**32 - 1])
def test_no_two_drafts_of_any_choices_draw_from_one_seed(seed: int) -> None:
    # The seeds of the choices as planning makes them; by their lowest 32 bits, for torch reads no more on CPUs.
    choices = [seed, *((seed + index) % 2**63 for index in range(1, MAX_CHOICES))]
    seeds = [each for choice in choices for each in seeds_of(choice, MAX_BEST_OF)]
    assert all(each is not None and -(2**63) <= each < 2**63 for each in seeds)
    assert len({each % 2**32 for each in seeds if each is not None}) == MAX_CHOICES * MAX_BEST_OF


def test_the_first_draft_is_the_answer_that_there_would_be_without_the_others() -> None:
    assert draft_jobs(JOB, 3)[0] == JOB


def test_without_a_seed_the_drafts_have_none_and_an_engine_still_tells_them_apart() -> None:
    assert seeds_of(None, 3) == [None, None, None]
    assert len({job.generation_id for job in draft_jobs(JOB, 3)}) == 3


async def test_at_temperature_zero_one_draft_is_made_and_that_is_told() -> None:
    job = replace(JOB, sampling=replace(JOB.sampling, temperature=0.0))
    ran = await run(scored("deliver", 0.5), scored("deliver", 0.9), job=job)
    assert len(ran.stages.jobs) == 1
    told = ran.told
    assert "temperature 0" in told.pop("note")
    assert told == {"asked": 2, "scores": [0.5], "chosen": 0}


# What fails


async def test_a_draft_that_fails_is_left_out() -> None:
    ran = await run(scored("deliver", 0.9, "a b c", fails_after=2), scored("regenerate", 0.3), regenerate_before=0.0)
    assert (ran.answer.text, ran.answer.outcome) == ("regenerate 0.3", "degraded")
    assert ran.told == {"asked": 2, "scores": [None, 0.3], "chosen": 1}
    assert ran.answer.usage.discarded_tokens == 2


async def test_when_all_drafts_fail_the_error_is_that_of_the_first_to_fail() -> None:
    late, early, last = Unavailable("late"), Unavailable("early"), Unavailable("last")
    ran = await run(
        Script("a b c", fails_after=2, error=late),
        Script("a b", fails_after=0, error=early),
        Script("a b c d", fails_after=3, error=last),
    )
    assert (ran.end.ending, ran.end.error) == ("error", early)
    assert ran.stages.rows == []
    assert ran.best_of.untold_tokens == 2 + 3


async def test_a_draft_that_ends_without_a_finish_reason_has_failed() -> None:
    ran = await run(Script("a b", Verdict("deliver", score=1.0), finish_reason=None), scored("deliver", 0.5))
    assert ran.told["scores"] == [None, 0.5]


async def test_drafts_that_the_engine_cancels_end_in_an_error_and_not_in_a_cancelled_request() -> None:
    clock, plan, stages, best_of = make(Script("a"), Script("b"))

    async def cancelled(job: GenerationJob) -> AsyncGenerator[TokenDelta, None]:
        raise asyncio.CancelledError
        yield

    stages.generate = cancelled  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="dropped"):
        await clock.run(anext(best_of.generate(plan.job)))


@pytest.mark.parametrize("action", ["deliver", "regenerate", "block"])
async def test_a_draft_without_a_verdict_comes_after_all_that_have_one(action: Any) -> None:
    unjudged = Script("nobody knows", Unavailable("no pool"))
    ran = await run(unjudged, scored(action, 0.2), regenerate_before=0.0)
    assert ran.told == {"asked": 2, "scores": [None, 0.2], "chosen": 1}


async def test_drafts_that_the_pool_could_not_judge_leave_one_unvalidated_answer() -> None:
    ran = await run(Script("first one", Unavailable("no pool")), Script("second one", Unavailable("no pool")))
    assert (ran.answer.text, ran.answer.outcome, ran.answer.score) == ("first one", "unvalidated", None)
    assert len(ran.stages.judged) == 2, "the pool was asked once more"


async def test_a_pool_that_is_too_slow_is_waited_for_once() -> None:
    ran = await run(Script("first one", judge_s=60.0), Script("second one", judge_s=60.0))
    assert ran.answer.outcome == "unvalidated"
    assert ran.clock.now() == pytest.approx(0.2 + 2.0)
    assert "late_verdict" in ran.answer.findings[0].message


# When time runs out


async def test_when_the_time_is_up_the_best_of_the_whole_drafts_is_taken_and_the_others_are_closed() -> None:
    slow = scored("deliver", 1.0, " ".join("x" * 50), token_s=0.85)
    ran = await run(scored("deliver", 0.5), scored("deliver", 0.6), slow)
    assert ran.clock.now() == pytest.approx(9.0)
    assert ran.told == {"asked": 3, "scores": [0.5, 0.6, None], "chosen": 1}
    assert ran.answer.usage.discarded_tokens == 2 + 10


async def test_when_no_draft_is_whole_by_then_the_first_that_becomes_it_is_the_answer() -> None:
    drafts = [Script("a b c d", token_s=2.45), Script("a b c e", token_s=2.4), Script("x y z", token_s=4.0)]
    ran = await run(*drafts, deadline=100.0)
    assert (ran.answer.text, ran.answer.outcome) == ("a b c e", "unvalidated")
    assert ran.stages.most_open == 3
    assert ran.told == {"asked": 3, "scores": [None, None, None], "chosen": 1}


async def test_a_draft_that_fails_after_that_does_not_end_the_wait() -> None:
    ran = await run(Script("a b", token_s=9.2, fails_after=0), Script("c", token_s=19.0), deadline=100.0)
    assert ran.answer.text == "c"


async def test_the_deadline_closes_all_drafts_and_their_tokens_are_told() -> None:
    ran = await run(Script("a b c d", token_s=4.0), Script("e f g h", token_s=4.0))
    assert ran.end.error is not None
    assert ran.end.error.http_status == 504
    assert ran.life.usage.discarded_tokens == 0
    assert ran.best_of.untold_tokens == 4


async def test_a_caller_that_goes_away_closes_all_drafts_and_leaves_no_task() -> None:
    clock, plan, stages, best_of = make(*(Script(f"a b c {n}", token_s=1.0) for n in range(3)))

    async def go_away() -> None:
        waiting = asyncio.ensure_future(anext(best_of.generate(plan.job)))
        await clock.sleep(1.5)
        assert stages.open == 3
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled()
        # At once, and not when the garbage collector comes by.
        assert stages.open == 0

    await clock.run(go_away())
    assert len(asyncio.all_tasks()) == 1


async def test_a_generator_that_nobody_iterates_starts_nothing() -> None:
    _, plan, stages, best_of = make(Script("a"), Script("b"))
    await best_of.generate(plan.job).aclose()
    assert stages.jobs == []


# The second attempt


async def test_a_regeneration_is_a_single_generation_that_the_pool_judges() -> None:
    bad = [scored("regenerate", 0.3, "bad one"), scored("regenerate", 0.4, "worse two words")]
    ran = await run(*bad, second=scored("deliver", 0.9, "good"))
    assert [job.attempt for job in ran.stages.jobs] == [0, 0, 1]
    assert [job.text for job in ran.stages.judged] == ["bad one", "worse two words", "good"]
    assert (ran.answer.text, ran.answer.outcome, ran.answer.attempts) == ("good", "retried", 2)
    assert (ran.answer.usage.completion_tokens, ran.answer.usage.discarded_tokens) == (1, 2 + 3)
    assert ran.told == {"asked": 2, "scores": [0.3, 0.4], "chosen": 1}


async def test_a_second_attempt_that_is_no_better_leaves_the_best_draft() -> None:
    bad = [scored("regenerate", 0.3, "bad one"), scored("regenerate", 0.4, "worse two words")]
    ran = await run(*bad, second=scored("regenerate", 0.1, "poor"))
    assert (ran.answer.text, ran.answer.outcome) == ("worse two words", "degraded")
    assert (ran.answer.usage.completion_tokens, ran.answer.usage.discarded_tokens) == (3, 2 + 1)


VERDICTS = st.builds(
    lambda action, score: Verdict(action, score=score),
    st.sampled_from(["deliver", "fix", "regenerate", "fallback", "block"]),
    st.sampled_from([0.0, 0.5, 1.0]),
)
SCRIPTS = st.builds(
    Script,
    text=st.sampled_from(["one", "one two three", "a b c d e f"]),
    verdict=st.one_of(VERDICTS, st.just(Unavailable("no pool"))),
    token_s=st.sampled_from([0.0, 0.5, 3.0]),
    judge_s=st.sampled_from([0.0, 1.0, 20.0]),
    fails_after=st.sampled_from([None, None, 0, 2]),
)


@given(drafts=st.lists(SCRIPTS, min_size=2, max_size=4), second=SCRIPTS)
def test_whatever_the_drafts_do_there_is_one_ending_and_nothing_left_running(
    drafts: list[Script], second: Script
) -> None:
    # Texts that differ, so that each has the verdict of its own script.
    scripts = [replace(script, text=f"{script.text} {index}") for index, script in enumerate([*drafts, second])]
    ran = asyncio.run(run(*scripts[:-1], second=scripts[-1]))
    if ran.end.ending != "whole":
        assert ran.stages.rows == []
        assert ran.end.error is not None
        return
    assert len(ran.stages.rows) == 1
    assert ran.best_of.untold_tokens == 0
    scores = ran.told["scores"]
    assert scores[ran.told["chosen"]] is not None or set(scores) == {None}
