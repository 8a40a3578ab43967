"""Asking both arms over HTTP; the service is a stand-in, but where a test says that it is the real application."""

import asyncio
import json

import httpx
import pytest
from gate_support import ADAPTER, ADAPTERS, StandIn, finding, make_body, make_prompts

from graph.errors import Conflict, InvalidRequest, PermissionDenied, Unauthenticated, Unavailable
from tests.unit.ingress.harness import running
from training.evaluate import AskedPair, AskOptions, ServiceClient, judge_pair, read_answer, seed_of
from training.judges import ScoreJudge
from training.llm_judge import LlmJudge


@pytest.fixture
def service():
    return StandIn()


# Both arms


async def test_every_prompt_is_asked_of_both_arms_with_one_seed_and_its_controls(service):
    told = []
    prompts = make_prompts(12, {"lp": {"depth": 10}, "ls": {"format": "steps"}})
    evaluation = await service.ask(prompts, lambda done, total: told.append((done, total)), concurrency=3, seed=4)
    assert [pair.prompt for pair in evaluation.pairs] == list(prompts)
    assert service.most_running == 3
    assert told[-1] == (24, 24)
    by_prompt = {}
    for arm, body in service.asked:
        by_prompt.setdefault(body["messages"][0]["content"], {})[arm] = body
    for prompt in prompts:
        one, other = (by_prompt[prompt.question][arm] for arm in ADAPTERS)
        assert one == other
        assert one["seed"] == seed_of(prompt, 4) != seed_of(prompt, 5)
        assert (one["model"], one["controls"]) == ("small", prompt.controls)
        assert "max_tokens" not in one
    first = [arm for arm, _ in service.asked[::2]]
    assert set(first) == set(ADAPTERS), "each arm is asked first of some prompts"


async def test_a_limit_of_tokens_is_sent(service):
    await service.ask(make_prompts(1), max_tokens=64)
    assert {body["max_tokens"] for _, body in service.asked} == {64}


@pytest.mark.parametrize(
    ("arm", "adapter", "message"),
    [
        ("champion", ADAPTER, "answered as champion with the adapter aaa"),
        ("challenger", None, "answered as challenger with the base model"),
        (None, None, "answered as None"),
    ],
)
async def test_an_answer_of_another_arm_or_adapter_ends_the_gate(service, arm, adapter, message):
    async def answer(asked, body):
        return httpx.Response(200, json=make_body(asked if arm is not None else None, adapter))

    service.answer = answer
    with pytest.raises(Conflict, match=message):
        await service.ask(make_prompts(4))


async def test_a_challenger_that_was_taken_away_ends_the_gate(service):
    async def answer(arm, body):
        error = {"message": "There is no challenger now.", "param": "x-rheostat-arm"}
        return httpx.Response(400, json={"error": error})

    service.answer = answer
    with pytest.raises(Conflict, match="no challenger"):
        await service.ask(make_prompts(4))


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [(401, Unauthenticated, "--key-env"), (403, PermissionDenied, "admin tenant")],
)
async def test_a_key_that_may_not_choose_arms_ends_the_gate(service, status, error, message):
    async def answer(arm, body):
        return httpx.Response(status, json={"error": {"message": "No."}})

    service.answer = answer
    with pytest.raises(error, match=message):
        await service.ask(make_prompts(4))


async def test_a_service_that_is_not_there_is_named():
    def refuse(request):
        raise httpx.ConnectError("refused")

    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse), base_url="http://service") as client:
        with pytest.raises(Unavailable, match="http://service cannot be reached"):
            await ServiceClient(client, AskOptions(), lambda: 0.0).ask_both(make_prompts(2), ADAPTERS)


# What does not answer


async def test_a_prompt_that_the_service_refuses_is_left_out_for_both_arms(service):
    async def answer(arm, body):
        if body["messages"][0]["content"] == "Why 1?":
            return httpx.Response(400, json={"error": {"message": "The prompt is too long.", "param": "messages"}})
        return httpx.Response(200, json=make_body(arm, ADAPTERS[arm]))

    service.answer = answer
    evaluation = await service.ask(make_prompts(3))
    assert [pair.prompt.question for pair in evaluation.pairs] == ["Why 0?", "Why 2?"]
    assert (evaluation.refused, evaluation.refusal) == (1, "The prompt is too long.")


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_a_failure_is_a_failed_answer_of_its_arm_and_loses(service, status):
    async def answer(arm, body):
        if arm == "challenger":
            return httpx.Response(status, json={"error": {"message": "Our bug."}})
        return httpx.Response(200, json=make_body(arm))

    service.answer = answer
    evaluation = await service.ask(make_prompts(3))
    assert (evaluation.failures("champion"), evaluation.failures("challenger")) == (0, 3)
    outcome = await judge_pair(evaluation.pairs[0], ScoreJudge())
    assert outcome.winner == "champion"
    assert (outcome.challenger.passed, outcome.challenger.words, outcome.challenger.token_s) == (False, 0, None)


@pytest.mark.parametrize("error", [httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut")])
async def test_an_answer_that_breaks_off_is_a_failed_one(service, error):
    async def answer(arm, body):
        raise error

    service.answer = answer
    evaluation = await service.ask(make_prompts(2))
    assert (evaluation.failures("champion"), evaluation.failures("challenger")) == (2, 2)
    assert (await judge_pair(evaluation.pairs[0], ScoreJudge())).winner == "tie"


async def test_a_busy_service_is_asked_again_when_it_says(service):
    busy = iter([httpx.Response(429, headers={"retry-after": "3"}), httpx.Response(503)])

    async def answer(arm, body):
        return next(busy, None) or httpx.Response(200, json=make_body(arm, ADAPTERS[arm]))

    service.answer = answer
    evaluation = await service.ask(make_prompts(1))
    assert (evaluation.failures("champion"), evaluation.failures("challenger")) == (0, 0)
    assert sorted(service.waits) == [1.0, 3.0]


async def test_a_service_that_stays_busy_is_not_waited_for_for_ever(service):
    async def answer(arm, body):
        return httpx.Response(503, headers={"retry-after": "5"})

    service.answer = answer
    evaluation = await service.ask(make_prompts(1), max_wait_s=40)
    assert evaluation.failures("champion") == evaluation.failures("challenger") == 1
    assert 2 <= len(service.waits) <= 20


# What is measured of an answer


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"findings": [finding("readability")]}, True),
        ({"outcome": "fixed", "findings": [finding("truncation", "fix")]}, False),
        ({"outcome": "retried", "attempts": 2}, False),
        ({"outcome": "pass", "attempts": 2}, False),
        ({"outcome": "degraded", "findings": [finding("relevance", "regenerate")]}, False),
        ({"outcome": "degraded", "findings": [finding("repetition")]}, False),
        ({"outcome": "unvalidated", "score": None}, False),
        ({"outcome": "blocked", "refusal": "I can't share that."}, False),
    ],
)
def test_an_answer_passed_if_the_first_text_was_delivered_as_it_was(changes, passed):
    assert read_answer(make_body(**changes), "champion", None, 1.0).facts.passed is passed


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, False),
        ({"outcome": "degraded"}, False),
        ({"outcome": "blocked"}, True),
        ({"refusal": "I can't share that."}, True),
        ({"findings": [finding("refusal")]}, True),
    ],
)
def test_a_blocked_answer_and_one_that_only_refuses_are_refusals(changes, refused):
    assert read_answer(make_body(**changes), "champion", None, 1.0).facts.refused is refused


def test_time_is_told_for_each_token_that_was_made_and_words_as_the_receipt_counts_them():
    body = make_body(text="One two three four.", tokens=6, scores={"control_fit": 0.25})
    body["rheostat"]["discarded_tokens"] = 4
    facts = read_answer(body, "champion", None, 2.0).facts
    assert (facts.words, facts.token_s, facts.control_fit) == (4, 0.2, 0.25)
    assert read_answer(make_body(tokens=0), "champion", None, 2.0).facts.token_s is None


async def test_equal_answers_are_a_tie_whatever_their_scores_are():
    one, other = (read_answer(make_body(score=score), "champion", None, 1.0) for score in (0.1, 0.9))
    (prompt,) = make_prompts(1)
    assert (await judge_pair(AskedPair(prompt, one, other), ScoreJudge())).winner == "tie"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"concurrency": 0}, "concurrency is 0"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"timeout_s": 0}, "timeout_s is 0"),
    ],
)
def test_options_out_of_range_are_refused_by_name(changes, message):
    with pytest.raises(InvalidRequest, match=message):
        AskOptions(**changes)


# The real application


async def test_the_real_application_s_answer_is_understood_and_without_a_challenger_there_is_no_gate(tmp_path):
    async with running(tmp_path / "log") as (client, backend):
        asking = ServiceClient(client, AskOptions(), asyncio.get_running_loop().time)
        (prompt,) = make_prompts(1, {"lp": {"depth": 10}})
        answer = await asking._ask(prompt, "champion", None, await asking.model())
        assert answer.failure is None
        assert answer.text
        assert answer.facts.token_s > 0
        assert answer.facts.control_fit is not None
        assert [json.loads(row["extra"])["purpose"] for row in backend.rows] == ["gate"]
        with pytest.raises(Conflict, match="There is no challenger"):
            await asking.ask_both((prompt,), ADAPTERS)


# A model as judge


class Reply:
    def __init__(self, *letters):
        self.letters = list(letters)
        self.asked = []

    async def compare(self, status=200):
        def handle(request):
            self.asked.append(json.loads(request.content))
            content = self.letters.pop(0)
            return httpx.Response(status, json={"choices": [{"message": {"content": content}}]})

        async def sleep(seconds):
            pass

        async with httpx.AsyncClient(transport=httpx.MockTransport(handle), base_url="http://judge/v1/") as client:
            champion, challenger = (read_answer(make_body(text=text), "champion", None, 1.0) for text in ("old", "new"))
            return await LlmJudge(client, "strong", sleep).compare("Why?", champion, challenger)


@pytest.mark.parametrize(
    ("letters", "verdicts"),
    [
        (("B", "A"), ("challenger", "challenger")),
        (("A", "B"), ("champion", "champion")),
        (("A", "A"), ("champion", "challenger")),
        (("T", " A\n"), ("tie", "challenger")),
        (("B, because it is longer", "a"), ("tie", "tie")),
        (("", None), ("tie", "tie")),
    ],
)
async def test_a_model_judges_in_both_orders_with_one_letter(letters, verdicts):
    judge = Reply(*letters)
    assert await judge.compare() == verdicts
    first, second = (asked["messages"][1]["content"] for asked in judge.asked)
    assert first.index("old") < first.index("new")
    assert second.index("new") < second.index("old")


async def test_a_judge_that_cannot_be_asked_ends_the_gate():
    with pytest.raises(Unavailable, match=r"http://judge/v1/ cannot be asked \(status 401"):
        await Reply("A", "A").compare(401)
    judge = Reply(*"AAAA")
    with pytest.raises(Unavailable, match="status 500"):
        await judge.compare(500)
    assert len(judge.asked) == 4
