"""One request's life ends exactly once, whatever happens in whatever order."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from graph.contracts import CHECK_FAILED, CheckContext, Finding, GenerationJob, Message, Sampling, TokenDelta, Verdict
from graph.errors import DeadlineExceeded, InternalError, Unavailable
from graph.lifecycle import Phase, RequestLife
from graph.moves import (
    Abort,
    ClientGone,
    Command,
    DeadlinePassed,
    Delta,
    End,
    Event,
    Format,
    Formatted,
    Generate,
    Judge,
    Judged,
    Plan,
    Record,
    Recorded,
    Release,
    StageFailed,
)

SECRET = "SECRET"


@dataclass(frozen=True)
class Let:
    text: str = ""
    findings: tuple[Finding, ...] = ()
    stop: bool = False


@dataclass
class WordGuard:
    """Holds the last word back, redacts nothing, stops at SECRET: the shape of the real guard, in ten lines."""

    held: str = ""
    stopped: bool = False
    seen: list[str] = field(default_factory=list)

    def feed(self, text: str) -> Let:
        if self.stopped:
            return Let(stop=True)
        self.held += text
        head, space, tail = self.held.rpartition(" ")
        return self._let(head + space, tail)

    def flush(self) -> Let:
        return self._let(self.held, "")

    def _let(self, text: str, rest: str) -> Let:
        if SECRET in text:
            self.stopped = True
            return Let(text[: text.index(SECRET)], (Finding("secrets", "hard", "a key", action="block"),), True)
        self.held = rest
        return Let(text)


def make_plan(**changes: object) -> Plan:
    job = GenerationJob("g1", 0, (Message("user", "Why is the sky blue?"),), Sampling(temperature=1.0, seed=5))
    values: dict[str, object] = {
        "job": job,
        "context": CheckContext(prompt="Why is the sky blue?"),
        "answer_format": "markdown",
        "rendering": "markdown",
        "streaming": False,
        "deadline": 100.0,
        "regenerate_before": 50.0,
        "regenerate_until": 99.0,
        "fallback_text": "I could not answer.",
        "refusal_text": "I can't share that.",
        "record": {"generation_id": "g1"},
    }
    return Plan(**{**values, **changes})  # type: ignore[arg-type]


def make_life(**changes: object) -> RequestLife:
    return RequestLife(make_plan(**changes), WordGuard)


def token(text: str, finish: str | None = None) -> Delta:
    return Delta(TokenDelta(text, 1, prompt_tokens=7, finish_reason=finish))  # type: ignore[arg-type]


def run(life: RequestLife, *events: Event, now: float = 1.0) -> list[Command]:
    commands = list(life.start())
    for event in events:
        commands += life.step(event, now)
    return commands


def ending_of(commands: list[Command]) -> End:
    ends = [c for c in commands if isinstance(c, End)]
    assert len(ends) == 1
    return ends[0]


def soft(check: str, action: str = "regenerate") -> Finding:
    return Finding(check, "soft", "not good", action=action)  # type: ignore[arg-type]


GOOD = Judged(Verdict("deliver", score=0.9))


def test_a_good_answer_is_judged_formatted_recorded_and_then_whole() -> None:
    commands = run(make_life(), token("Because."), token("", "stop"), GOOD, Formatted("Because!"), Recorded())
    assert [type(c) for c in commands] == [Generate, Judge, Format, Record, End]
    end = ending_of(commands)
    assert end.ending == "whole"
    assert end.answer is not None
    assert (end.answer.text, end.answer.outcome, end.answer.finish_reason) == ("Because!", "pass", "stop")
    assert end.answer.usage.completion_tokens == 2


def test_a_stream_releases_text_only_after_the_guard_let_it_go() -> None:
    life = make_life(streaming=True)
    commands = run(life, token("The sky "), token("is bl"), token("ue.", "stop"), GOOD, Recorded())
    assert [c.text for c in commands if isinstance(c, Release)] == ["The sky ", "is ", "blue."]
    assert ending_of(commands).answer.text == "The sky is blue."  # type: ignore[union-attr]


def test_a_stream_that_meets_a_hard_finding_aborts_the_engine_and_ends_as_blocked() -> None:
    life = make_life(streaming=True)
    commands = run(life, token("The key is "), token(f"{SECRET} and "), Recorded())
    assert [c.text for c in commands if isinstance(c, Release)] == ["The key is "]
    assert any(isinstance(c, Abort) for c in commands)
    end = ending_of(commands)
    assert end.answer is not None
    assert (end.answer.outcome, end.answer.finish_reason) == ("blocked", "content_filter")
    assert end.answer.refusal == "I can't share that."


def test_a_bad_first_answer_is_regenerated_once_cooler_and_with_another_seed() -> None:
    bad = Judged(Verdict("regenerate", (soft("relevance"),), score=0.3))
    life = make_life()
    commands = run(life, token("la la", "stop"), bad, token("Good.", "stop"), GOOD, Formatted("Good."), Recorded())
    first, second = [c.job for c in commands if isinstance(c, Generate)]
    assert second.attempt == 1
    assert second.sampling.seed == 6
    assert second.sampling.temperature == pytest.approx(0.7)
    assert "question" in second.messages[-1].content
    assert first.messages[-1].content in second.messages[-1].content
    answer = ending_of(commands).answer
    assert answer is not None
    assert (answer.outcome, answer.attempts, answer.usage.discarded_tokens) == ("retried", 2, 1)


def test_of_two_bad_answers_the_better_one_is_delivered_as_degraded() -> None:
    worse = Judged(Verdict("regenerate", (soft("repetition"),), score=0.2))
    better = Judged(Verdict("regenerate", (soft("language"),), score=0.6))
    commands = run(
        make_life(), token("first", "stop"), better, token("second", "stop"), worse, Formatted("x"), Recorded()
    )
    formatted = [c.job.text for c in commands if isinstance(c, Format)]
    assert formatted == ["first"]
    assert ending_of(commands).answer.outcome == "degraded"  # type: ignore[union-attr]


def test_no_regeneration_starts_when_too_little_time_is_left() -> None:
    bad = Judged(Verdict("regenerate", (soft("repetition"),), score=0.3))
    commands = run(make_life(), token("x", "stop"), bad, now=60.0)
    assert sum(isinstance(c, Generate) for c in commands) == 1


def test_a_second_attempt_that_fails_or_is_late_leaves_the_first_answer() -> None:
    bad = Judged(Verdict("regenerate", (soft("truncation"),), score=0.4))
    for failure in (StageFailed(Unavailable("gone")), DeadlinePassed()):
        commands = run(make_life(), token("first", "stop"), bad, failure, Formatted("first"), Recorded())
        end = ending_of(commands)
        assert end.answer is not None
        assert (end.answer.text, end.answer.outcome) == ("first", "degraded")


def test_an_empty_answer_twice_becomes_the_fallback_text() -> None:
    empty = Judged(Verdict("fallback", (soft("empty", "fallback"),), score=0.0))
    commands = run(make_life(), token("", "stop"), empty, token("", "stop"), empty)
    assert [c.job.text for c in commands if isinstance(c, Format)] == ["I could not answer."]


def test_a_local_fix_is_delivered_in_place_of_the_text() -> None:
    fixed = Judged(Verdict("fix", (soft("truncation", "fix"),), score=0.8, fixed_text="Whole."))
    commands = run(make_life(), token("Whole. Ha", "length"), fixed, Formatted("Whole."), Recorded())
    answer = ending_of(commands).answer
    assert answer is not None
    assert (answer.text, answer.outcome, answer.finish_reason) == ("Whole.", "fixed", "length")


def test_without_the_validator_pool_an_answer_leaves_unvalidated() -> None:
    commands = run(
        make_life(), token("Fine.", "stop"), StageFailed(Unavailable("no pool")), Formatted("Fine."), Recorded()
    )
    assert ending_of(commands).answer.outcome == "unvalidated"  # type: ignore[union-attr]


def test_without_the_validator_pool_a_hard_finding_is_still_blocked() -> None:
    commands = run(make_life(), token(f"The key: {SECRET}", "stop"), StageFailed(Unavailable("no pool")), Recorded())
    answer = ending_of(commands).answer
    assert answer is not None
    assert answer.outcome == "blocked"
    assert SECRET not in answer.text


@pytest.mark.parametrize("streaming", [False, True])
def test_without_the_validator_pool_an_answer_is_blocked_where_a_check_that_only_it_runs_fails_closed(
    streaming: bool,
) -> None:
    life = RequestLife(make_plan(streaming=streaming), WordGuard, closed_checks=("toxicity",))
    commands = run(life, token("All is fine.", "stop"), StageFailed(Unavailable("no pool")), Recorded())
    answer = ending_of(commands).answer
    assert answer is not None
    assert (answer.outcome, answer.finish_reason) == ("blocked", "content_filter")
    # What has left cannot be taken back.
    assert answer.text == ("All is fine." if streaming else "")
    (finding,) = answer.findings
    assert (finding.check, finding.severity, finding.action) == ("toxicity", "hard", "block")
    assert finding.message.startswith(CHECK_FAILED)


def test_an_answer_that_cannot_be_recorded_is_refused_or_cut_never_delivered() -> None:
    failed = StageFailed(Unavailable("disk"))
    whole = run(make_life(), token("x", "stop"), GOOD, Formatted("x"), failed)
    assert ending_of(whole).ending == "error"
    streamed = run(make_life(streaming=True), token("x y", "stop"), GOOD, failed)
    assert ending_of(streamed).ending == "cut"


def test_an_engine_that_dies_before_the_first_byte_is_an_error_and_after_it_a_cut() -> None:
    died = StageFailed(Unavailable("engine"))
    assert ending_of(run(make_life(streaming=True), died)).ending == "error"
    assert ending_of(run(make_life(streaming=True), token("The sky "), died)).ending == "cut"


def test_logprobs_never_run_ahead_of_the_text_and_stop_at_a_finding() -> None:
    life = make_life(streaming=True)
    deltas = [
        Delta(TokenDelta(text, 1, 7, logprobs=({"token": text},))) for text in ("The ", "key ", "is ", "SEC", "RET ")
    ]
    released = [c for c in run(life, *deltas) if isinstance(c, Release)]
    told = [entry["token"] for release in released for entry in release.logprobs]
    assert told == ["The ", "key ", "is "]


def test_logprobs_that_come_before_their_text_wait_for_it() -> None:
    # As an engine does that looks for a stop string: the entries at once, the text later.
    early = [Delta(TokenDelta("", 1, 7, logprobs=({"token": text},))) for text in ("The ", "key ", "is ", SECRET)]
    late = Delta(TokenDelta(f"The key is {SECRET} ", 0, 7))
    released = [c for c in run(make_life(streaming=True), *early, late) if isinstance(c, Release)]
    assert [entry["token"] for release in released for entry in release.logprobs] == []
    assert [release.text for release in released] == ["The key is "]


def test_a_streamed_second_attempt_that_is_not_judged_is_recorded_as_it_was_sent() -> None:
    empty = Judged(Verdict("fallback", (soft("empty", "fallback"),), score=0.0))
    life = make_life(streaming=True)
    commands = run(life, token("", "stop"), empty, token("Good.", "stop"), StageFailed(Unavailable("pool")), Recorded())
    (record,) = [c.row for c in commands if isinstance(c, Record)]
    assert (record["answer"], record["outcome"]) == ("Good.", "unvalidated")
    answer = ending_of(commands).answer
    assert answer is not None
    assert (answer.usage.completion_tokens, answer.usage.discarded_tokens) == (1, 1)


def test_a_block_of_the_pools_counts_beside_an_earlier_redaction() -> None:
    class Redacting(WordGuard):
        def feed(self, text: str) -> Let:
            return Let(text, (Finding("pii", "hard", "an address", action="fix"),))

    life = RequestLife(make_plan(streaming=True), Redacting)
    block = Judged(Verdict("block", (Finding("prompt_leak", "hard", "leak", action="block"),)))
    answer = ending_of(run(life, token("a b", "stop"), block, Recorded())).answer
    assert answer is not None
    assert (answer.outcome, answer.finish_reason) == ("blocked", "content_filter")


class Expanding:
    """Holds one word back and writes don't out: the shape of the real stream."""

    def __init__(self) -> None:
        self.held = ""

    def feed(self, text: str) -> str:
        head, space, self.held = (self.held + text).rpartition(" ")
        return written_out(head + space)

    def flush(self) -> str:
        return written_out(self.held)


def written_out(text: str) -> str:
    return text.replace("don't", "do not")


def make_expanding_life(**changes: object) -> RequestLife:
    plan = make_plan(expand_contractions=True, **changes)
    return RequestLife(plan, WordGuard, Expanding if plan.streaming else None, expand=written_out)


def test_the_formatter_is_told_to_write_contractions_out_and_what_it_made_is_recorded_and_measured() -> None:
    commands = run(make_expanding_life(), token("I don't.", "stop"), GOOD, Formatted("I do not."), Recorded())
    (job,) = [c.job for c in commands if isinstance(c, Format)]
    assert (job.text, job.expand_contractions) == ("I don't.", True)
    (row,) = [c.row for c in commands if isinstance(c, Record)]
    answer = ending_of(commands).answer
    assert answer is not None
    assert row["answer"] == answer.text == answer.unrendered == "I do not."
    assert answer.outcome == "pass"


def test_a_stream_releases_records_and_measures_what_was_written_out() -> None:
    deltas = [token("I do"), token("n't know, I "), token("don't", "stop")]
    commands = run(make_expanding_life(streaming=True), *deltas, GOOD, Recorded())
    assert [c.text for c in commands if isinstance(c, Release)] == ["I ", "do not know, I ", "do not"]
    (row,) = [c.row for c in commands if isinstance(c, Record)]
    answer = ending_of(commands).answer
    assert answer is not None
    assert row["answer"] == answer.text == answer.unrendered == "I do not know, I do not"
    assert answer.outcome == "pass"


def test_the_guard_sees_the_words_that_leave_and_the_pool_those_of_the_model() -> None:
    @dataclass
    class Leak(WordGuard):
        def _let(self, text: str, rest: str) -> Let:
            return super()._let(text.replace("do not", SECRET), rest)

    plan = make_plan(expand_contractions=True, streaming=True)
    streamed = run(RequestLife(plan, Leak, Expanding, expand=written_out), token("I don't ", "stop"), Recorded())
    whole = RequestLife(replace(plan, streaming=False), Leak, expand=written_out)
    formatted = run(whole, token("I don't ", "stop"), GOOD, Formatted("I do not "), Recorded())
    for commands in (streamed, formatted):
        answer = ending_of(commands).answer
        assert answer is not None
        assert answer.outcome == "blocked"
        assert "do not" not in answer.text
    assert [c.job.text for c in formatted if isinstance(c, Judge)] == ["I don't "]


def test_a_second_attempt_is_written_out_from_its_own_beginning() -> None:
    empty = Judged(Verdict("fallback", (soft("empty", "fallback"),), score=0.0))
    life = make_expanding_life(streaming=True)
    commands = run(life, token("", "stop"), empty, token("I don't", "stop"), GOOD, Recorded())
    assert [c.text for c in commands if isinstance(c, Release)] == ["I do not"]


def test_a_text_that_stands_in_for_a_streams_answer_is_written_out_too() -> None:
    empty = Judged(Verdict("fallback", (soft("empty", "fallback"),), score=0.0))
    life = make_expanding_life(streaming=True, fallback_text="I don't know.")
    commands = run(life, token("", "stop"), empty, token("", "stop"), empty, Recorded())
    assert [c.text for c in commands if isinstance(c, Release)] == ["I do not know."]
    answer = ending_of(commands).answer
    assert answer is not None
    assert answer.text == answer.unrendered == "I do not know."


def test_logprobs_of_written_out_text_are_the_models_own_tokens_and_come_together_at_the_end() -> None:
    texts = ["I ", "don", "'t ", "know"]
    deltas = [Delta(TokenDelta(text, 1, 7, logprobs=({"token": text},))) for text in texts]
    last = Delta(TokenDelta(".", 1, 7, finish_reason="stop", logprobs=({"token": "."},)))
    commands = run(make_expanding_life(streaming=True), *deltas, last)
    *early, end = [c for c in commands if isinstance(c, Release)]
    assert "".join(c.text for c in (*early, end)) == "I do not know."
    assert not any(c.logprobs for c in early)
    assert "".join(entry["token"] for entry in end.logprobs) == "I don't know."


def test_without_the_plan_nothing_is_written_out() -> None:
    life = RequestLife(make_plan(), WordGuard, expand=written_out)
    commands = run(life, token("I don't.", "stop"), GOOD, Formatted("I don't."), Recorded())
    answer = ending_of(commands).answer
    assert answer is not None
    assert answer.text == answer.unrendered == "I don't."
    assert [c.job.expand_contractions for c in commands if isinstance(c, Format)] == [False]


def test_after_the_end_nothing_is_said_any_more() -> None:
    life = make_life()
    run(life, ClientGone())
    assert life.step(token("more"), 2.0) == ()
    assert life.step(DeadlinePassed(), 2.0) == ()


class AnyOrder(RuleBasedStateMachine):
    """Every order of token, verdict, fix, regeneration, engine death, client gone and deadline."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.commands: list[Command] = []
        self.running = 0
        self.recorded = False

    @initialize(streaming=st.booleans())
    def begin(self, streaming: bool) -> None:
        self.life = make_life(streaming=streaming)
        self.streaming = streaming
        self.take(self.life.start())

    def take(self, commands: tuple[Command, ...]) -> None:
        for command in commands:
            assert not any(isinstance(c, End) for c in self.commands), "a command after the end"
            match command:
                case Generate():
                    assert self.running == 0, "two attempts at once"
                    self.running = 1
                case Abort():
                    self.running = 0
                case Release(text):
                    assert self.streaming
                    assert SECRET not in text
                case End(ending, answer, error):
                    assert (answer is not None) == (ending == "whole")
                    assert (error is not None) == (ending in ("error", "cut"))
                    assert ending != "error" or not self.life.has_released
                    assert ending != "cut" or self.life.has_released
                    if ending == "whole":
                        assert self.recorded, "an answer before its record"
                    assert self.running == 0, "an attempt still runs"
            self.commands.append(command)

    def send(self, event: Event) -> None:
        self.take(self.life.step(event, self.now))

    def in_phase(self, phase: Phase) -> bool:
        return self.life.phase is phase

    @precondition(lambda self: self.in_phase(Phase.GENERATING))
    @rule(
        text=st.sampled_from(["", " ", "word ", "wo", "rd", f"{SECRET} ", "SEC", "RET", "end."]),
        finish=st.sampled_from([None, None, None, "stop", "length", "repetition"]),
    )
    def engine_says(self, text: str, finish: str | None) -> None:
        if finish is not None:
            self.running = 0
        self.send(token(text, finish))

    @precondition(lambda self: self.in_phase(Phase.JUDGING))
    @rule(
        action=st.sampled_from(["deliver", "fix", "regenerate", "fallback", "block"]),
        score=st.floats(0, 1),
        fixed=st.sampled_from([None, "mended"]),
    )
    def validator_says(self, action: str, score: float, fixed: str | None) -> None:
        finding = Finding("x", "hard" if action == "block" else "soft", "m", action=action.replace("deliver", "note"))  # type: ignore[arg-type]
        self.send(Judged(Verdict(action, (finding,), {}, score, fixed if action == "fix" else None)))  # type: ignore[arg-type]

    @precondition(lambda self: self.in_phase(Phase.FORMATTING))
    @rule()
    def formatter_says(self) -> None:
        self.send(Formatted("formatted"))

    @precondition(lambda self: self.in_phase(Phase.RECORDING))
    @rule()
    def log_says(self) -> None:
        self.recorded = True
        self.send(Recorded())

    @rule(error=st.sampled_from([Unavailable("died"), InternalError("bug"), DeadlineExceeded("late")]))
    def stage_fails(self, error: Unavailable) -> None:
        if self.life.phase is Phase.GENERATING:
            self.running = 0
        self.send(StageFailed(error))

    @rule()
    def deadline_passes(self) -> None:
        self.send(DeadlinePassed())

    @rule()
    def client_goes(self) -> None:
        self.send(ClientGone())

    @rule(seconds=st.floats(0, 60))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def at_most_one_regeneration(self) -> None:
        assert sum(isinstance(c, Generate) for c in self.commands) <= 2

    def teardown(self) -> None:
        """Whatever has not ended is ended by its deadline: there is no life without an ending."""
        if not hasattr(self, "life"):
            return
        for _ in range(3):
            self.send(DeadlinePassed())
        assert sum(isinstance(c, End) for c in self.commands) == 1
        assert self.life.ending in ("whole", "error", "cut", "silent")


TestAnyOrder = pytest.mark.exhaustive(AnyOrder.TestCase)
TestAnyOrder.settings = settings(max_examples=400, stateful_step_count=30, deadline=None)


class Refusing:
    """Allows no regeneration, or all; keeps what it was told."""

    def __init__(self, allows: bool) -> None:
        self.allows = allows
        self.counted = 0
        self.asked: list[str] = []
        self.told: list[tuple[str, bool]] = []

    def count(self) -> None:
        self.counted += 1

    def allow(self, reason: str) -> bool:
        self.asked.append(reason)
        return self.allows

    def tell(self, reason: str, helped: bool) -> None:
        self.told.append((reason, helped))


BAD = Judged(Verdict("regenerate", (soft("repetition"), soft("language"))))


def test_an_answer_that_may_not_be_written_again_is_delivered_as_degraded() -> None:
    budget = Refusing(allows=False)
    life = RequestLife(make_plan(), WordGuard, regenerations=budget)
    answer = ending_of(run(life, token("So so.", "stop"), BAD, Formatted("So so."), Recorded())).answer
    assert answer is not None
    assert (answer.outcome, answer.attempts) == ("degraded", 1)
    assert (budget.counted, budget.asked, budget.told) == (1, ["repetition"], [])


@pytest.mark.parametrize(("second", "helped"), [(GOOD, True), (BAD, False)])
def test_the_budget_is_told_whether_a_regeneration_helped(second: Judged, helped: bool) -> None:
    budget = Refusing(allows=True)
    life = RequestLife(make_plan(), WordGuard, regenerations=budget)
    first = (token("So so.", "stop"), BAD)
    run(life, *first, token("Because.", "stop"), second, Formatted("Because."), Recorded())
    assert (budget.counted, budget.told) == (1, [("repetition", helped)])


def test_a_regeneration_that_is_not_done_in_time_did_not_help() -> None:
    budget = Refusing(allows=True)
    life = RequestLife(make_plan(), WordGuard, regenerations=budget)
    run(life, token("So so.", "stop"), BAD, DeadlinePassed(), Formatted("So so."), Recorded())
    assert budget.told == [("repetition", False)]


def test_of_a_wrong_language_the_reason_says_which_one_was_asked_for() -> None:
    budget = Refusing(allows=False)
    plan = make_plan(context=CheckContext(language="sv"))
    life = RequestLife(plan, WordGuard, regenerations=budget)
    bad = Judged(Verdict("regenerate", (soft("language"),)))
    run(life, token("So so.", "stop"), bad, Formatted("So so."), Recorded())
    assert budget.asked == ["language sv"]


def test_a_stream_that_has_begun_counts_for_no_regeneration() -> None:
    budget = Refusing(allows=True)
    life = RequestLife(make_plan(streaming=True), WordGuard, regenerations=budget)
    run(life, token("So so.", "stop"), BAD, Recorded())
    assert (budget.counted, budget.asked) == (0, [])


def hard(check: str, action: str) -> Finding:
    return Finding(check, "hard", "must not leave", action=action)  # type: ignore[arg-type]


def test_an_answer_that_looped_is_written_again_with_a_stronger_penalty_and_no_cooler() -> None:
    commands = run(make_life(), token("la la", "stop"), BAD)
    first, second = [c.job.sampling for c in commands if isinstance(c, Generate)]
    assert second.temperature == first.temperature
    assert second.repetition_penalty == pytest.approx(1.1)


@pytest.mark.parametrize("check", ["secrets", "pii", "prompt_leak", "toxicity"])
def test_every_check_that_failed_is_named_in_the_second_attempt(check: str) -> None:
    bad = Judged(Verdict("regenerate", (hard(check, "regenerate"),)))
    first, second = [c.job for c in run(make_life(), token("So so.", "stop"), bad) if isinstance(c, Generate)]
    assert len(second.messages[-1].content) > len(first.messages[-1].content)


def test_an_answer_in_which_something_is_still_wrong_is_degraded() -> None:
    cut = Judged(Verdict("deliver", (soft("truncation", "note"),), is_degraded=True))
    whole = ending_of(run(make_life(), token("So so", "stop"), cut, Formatted("So so"), Recorded())).answer
    streamed = ending_of(run(make_life(streaming=True), token("So so", "stop"), cut, Recorded())).answer
    assert whole is not None
    assert streamed is not None
    assert (whole.outcome, streamed.outcome) == ("degraded", "degraded")


@pytest.mark.parametrize(
    ("findings", "outcome"),
    [
        ((hard("near_leak", "regenerate"),), "blocked"),
        ((hard("pii", "fix"),), "blocked"),
        ((hard("near_leak", "note"),), "pass"),
        ((soft("language"),), "degraded"),
    ],
)
def test_a_hard_finding_of_a_stream_that_the_guard_did_not_have_is_blocked(
    findings: tuple[Finding, ...], outcome: str
) -> None:
    judged = Judged(Verdict("fix", findings))
    answer = ending_of(run(make_life(streaming=True), token("So so.", "stop"), judged, Recorded())).answer
    assert answer is not None
    assert answer.outcome == outcome


class OneRedaction(WordGuard):
    """Has taken one value out."""

    def flush(self) -> Let:
        return replace(super().flush(), findings=(hard("pii", "fix"),))


@pytest.mark.parametrize(("found", "outcome"), [(1, "fixed"), (2, "blocked")])
def test_a_stream_is_blocked_where_the_pool_finds_more_values_than_were_taken_out(found: int, outcome: str) -> None:
    judged = Judged(Verdict("fix", (hard("pii", "fix"),) * found))
    life = RequestLife(make_plan(streaming=True), OneRedaction)
    answer = ending_of(run(life, token("So so.", "stop"), judged, Recorded())).answer
    assert answer is not None
    assert answer.outcome == outcome


def test_of_an_attempt_that_is_thrown_away_no_logprobs_leave() -> None:
    thrown = Delta(TokenDelta("", 1, 7, finish_reason="stop", logprobs=({"token": "<eos>", "logprob": -0.1},)))
    kept = Delta(TokenDelta("Good.", 1, 7, finish_reason="stop", logprobs=({"token": "Good.", "logprob": -0.1},)))
    empty = Judged(Verdict("regenerate", (soft("empty"),)))
    commands = run(make_life(streaming=True), thrown, empty, kept, GOOD, Recorded())
    assert [entry["token"] for c in commands if isinstance(c, Release) for entry in c.logprobs] == ["Good."]


def test_white_space_is_no_answer_and_a_stream_of_it_can_still_be_written_again() -> None:
    empty = Judged(Verdict("regenerate", (soft("empty"),)))
    life = make_life(streaming=True)
    commands = run(
        life, token("\n"), token("\n", "stop"), empty, token("\n\nGood"), token(".", "stop"), GOOD, Recorded()
    )
    assert [c.text for c in commands if isinstance(c, Release)] == ["\n\nGood."]
    answer = ending_of(commands).answer
    assert answer is not None
    assert (answer.text, answer.outcome, answer.attempts) == ("\n\nGood.", "pass", 2)


def test_a_stopped_stream_stops_the_engine_before_anything_else_leaves() -> None:
    commands = run(make_life(streaming=True), token(f"It is {SECRET} and"))
    assert [type(c) for c in commands[1:3]] == [Abort, Release]


def test_a_block_after_formatting_tells_of_the_attempt_that_was_delivered() -> None:
    life = RequestLife(make_plan(), WordGuard, expand=str)
    bad, worse = (Judged(Verdict("regenerate", (soft("language"),), score=score)) for score in (0.6, 0.2))
    first = (token("a "), token("b "), token("c", "stop"), bad)
    answer = ending_of(run(life, *first, token("d", "stop"), worse, Formatted(SECRET), Recorded())).answer
    assert answer is not None
    assert (answer.outcome, answer.usage.completion_tokens, answer.usage.discarded_tokens) == ("blocked", 3, 1)
    assert "language" in {finding.check for finding in answer.findings}
