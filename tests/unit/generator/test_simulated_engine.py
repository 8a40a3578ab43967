"""The clauses of the Engine contract, on the simulated engine, and what its script can do."""

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, cast

import pytest
from pydantic import ValidationError

from deployments.generator.engine import Engine
from deployments.generator.simulated import SimulatedEngine, SimulatedSettings
from deployments.generator.simulated_prose import MARKER
from graph.contracts import EngineLoad, GenerationJob, Message, Sampling, TokenDelta
from graph.errors import ConfigurationError, InvalidRequest, Unavailable

IDLE = EngineLoad(running_requests=0, queued_tokens=0)


class FakeSleep:
    """Remembers what it was asked to wait and only gives way to other tasks."""

    def __init__(self) -> None:
        self.waited_s: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waited_s.append(seconds)
        await asyncio.sleep(0)


async def make_engine(sleep: FakeSleep | None = None, **settings: Any) -> SimulatedEngine:
    engine = SimulatedEngine(SimulatedSettings(**settings), sleep=sleep or FakeSleep(), clock=None)
    await engine.start()
    return engine


def make_job(
    prompt: str = "Tell me about rivers.",
    *,
    generation_id: str = "gen-1",
    attempt: int = 0,
    grammar: Mapping[str, Any] | None = None,
    adapter: str | None = None,
    **sampling: Any,
) -> GenerationJob:
    messages = (Message("user", prompt),)
    return GenerationJob(generation_id, attempt, messages, Sampling(**sampling), grammar, adapter=adapter)


def iterate(engine: Engine, job: GenerationJob) -> AsyncGenerator[TokenDelta, None]:
    return cast("AsyncGenerator[TokenDelta, None]", engine.generate(job))


async def answer(engine: Engine, job: GenerationJob) -> list[TokenDelta]:
    return [delta async for delta in engine.generate(job)]


def joined(deltas: list[TokenDelta]) -> str:
    return "".join(delta.text for delta in deltas)


async def text_of(engine: Engine, job: GenerationJob) -> str:
    return joined(await answer(engine, job))


async def test_it_serves_only_between_start_and_shutdown() -> None:
    engine = SimulatedEngine(SimulatedSettings(), sleep=FakeSleep(), clock=None)
    with pytest.raises(Unavailable):
        await engine.check_health()
    with pytest.raises(Unavailable):
        await answer(engine, make_job())
    await engine.start()
    await engine.check_health()
    assert await answer(engine, make_job())
    engine.shutdown()
    engine.shutdown()
    with pytest.raises(Unavailable):
        await engine.check_health()
    with pytest.raises(Unavailable):
        await answer(engine, make_job())


async def test_an_adapter_answers_the_jobs_that_name_it_until_it_is_removed() -> None:
    engine = await make_engine()
    base = await text_of(engine, make_job(seed=7))
    await engine.add_adapter("one", "/adapters/one")
    await engine.add_adapter("two", "/adapters/two")
    ones = await answer(engine, make_job(seed=7, adapter="one"))
    assert {delta.adapter for delta in ones} == {"one"}
    assert len({base, joined(ones), await text_of(engine, make_job(seed=7, adapter="two"))}) == 3
    assert joined(ones) == await text_of(engine, make_job(seed=7, adapter="one", generation_id="another"))
    assert await text_of(engine, make_job(seed=7)) == base
    await engine.remove_adapter("one")
    await engine.remove_adapter("one")
    without = await answer(engine, make_job(seed=7, adapter="one"))
    assert ({delta.adapter for delta in without}, joined(without)) == ({None}, base)


async def test_an_unknown_adapter_is_answered_by_the_base_model_and_the_deltas_say_so() -> None:
    engine = await make_engine()
    unknown = await answer(engine, make_job(seed=7, adapter="never added"))
    assert ({delta.adapter for delta in unknown}, joined(unknown)) == ({None}, await text_of(engine, make_job(seed=7)))


async def test_adding_and_removing_adapters_disturbs_no_job_under_way() -> None:
    engine = await make_engine()
    await engine.add_adapter("one", "/adapters/one")
    expected = [await text_of(engine, make_job(seed=7, adapter=name)) for name in (None, "one")]
    async with (
        aclosing(iterate(engine, make_job(seed=7))) as base,
        aclosing(iterate(engine, make_job(seed=7, adapter="one"))) as ones,
    ):
        got = [[await anext(base)], [await anext(ones)]]
        await engine.remove_adapter("one")
        await engine.add_adapter("two", "/adapters/two")
        got = [[*got[0], *[delta async for delta in base]], [*got[1], *[delta async for delta in ones]]]
    assert [joined(deltas) for deltas in got] == expected
    assert {delta.adapter for delta in got[1]} == {"one"}


async def test_an_engine_that_takes_no_adapters_says_which_setting_to_change() -> None:
    engine = await make_engine(max_lora_rank=0)
    await (await make_engine()).add_adapter("one that takes them", "anywhere")
    with pytest.raises(ConfigurationError, match=r"engine\.simulated\.max_lora_rank"):
        await engine.add_adapter("one", "/adapters/one")
    assert {delta.adapter for delta in await answer(engine, make_job(adapter="one"))} == {None}


async def test_it_says_that_it_is_simulated() -> None:
    engine = SimulatedEngine(SimulatedSettings(max_model_len=512), model_id="tiny")
    assert (engine.info.engine, engine.info.model, engine.info.max_model_len) == ("simulated", "tiny", 512)
    assert (await text_of(await make_engine(), make_job())).startswith(MARKER)


async def test_only_the_last_delta_has_a_finish_reason() -> None:
    deltas = await answer(await make_engine(), make_job())
    assert [delta.finish_reason for delta in deltas] == [None] * (len(deltas) - 1) + ["stop"]


async def test_every_delta_is_one_token_and_tells_the_prompt_tokens() -> None:
    deltas = await answer(await make_engine(), make_job("x" * 41))
    assert {(delta.token_count, delta.prompt_tokens) for delta in deltas} == {(1, 11)}


async def test_timing_is_first_token_then_token() -> None:
    sleep = FakeSleep()
    await answer(await make_engine(sleep, first_token_s=0.5, token_s=0.25), make_job(max_tokens=4))
    assert sleep.waited_s == [0.5, 0.25, 0.25, 0.25]


async def test_without_timing_other_tasks_still_run() -> None:
    sleep = FakeSleep()
    await answer(await make_engine(sleep, first_token_s=0, token_s=0), make_job(max_tokens=3))
    assert sleep.waited_s == [0, 0, 0]


async def test_the_same_messages_and_seed_give_the_same_text() -> None:
    engine = await make_engine()
    first = await text_of(engine, make_job(seed=7, generation_id="a"))
    assert first == await text_of(engine, make_job(seed=7, generation_id="b", attempt=1))
    assert first != await text_of(engine, make_job(seed=8))
    assert first != await text_of(engine, make_job("Another question", seed=7))


async def test_without_a_seed_the_generation_decides() -> None:
    engine = await make_engine()
    first = await text_of(engine, make_job(generation_id="a"))
    assert first == await text_of(engine, make_job(generation_id="a"))
    assert first != await text_of(engine, make_job(generation_id="b"))
    assert first != await text_of(engine, make_job(generation_id="a", attempt=1))


@pytest.mark.parametrize("seed", range(20))
async def test_a_free_answer_ends_by_itself_at_a_sentence_end(seed: int) -> None:
    deltas = await answer(await make_engine(), make_job(seed=seed))
    assert 20 <= len(deltas) <= 120
    assert joined(deltas).endswith(".")
    assert deltas[-1].finish_reason == "stop"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("max_tokens", [40, 60, 500])
async def test_a_roomy_max_tokens_does_not_cut_a_sentence(seed: int, max_tokens: int) -> None:
    deltas = await answer(await make_engine(), make_job(seed=seed, max_tokens=max_tokens))
    assert len(deltas) <= max_tokens
    assert joined(deltas).endswith(".")
    assert deltas[-1].finish_reason == "stop"


@pytest.mark.parametrize("max_tokens", [1, 7, 39])
async def test_a_tight_max_tokens_cuts_the_answer(max_tokens: int) -> None:
    deltas = await answer(await make_engine(), make_job(max_tokens=max_tokens))
    assert len(deltas) == max_tokens
    assert deltas[-1].finish_reason == "length"


@pytest.mark.parametrize("seed", range(10))
async def test_min_tokens_makes_a_longer_answer(seed: int) -> None:
    deltas = await answer(await make_engine(), make_job(seed=seed, min_tokens=300, max_tokens=400))
    assert 300 <= len(deltas) <= 400
    assert deltas[-1].finish_reason == "stop"


async def test_min_tokens_does_not_make_the_answer_shorter_than_usual() -> None:
    engine = await make_engine()
    for seed in range(10):
        usual = await text_of(engine, make_job(seed=seed))
        assert await text_of(engine, make_job(seed=seed, min_tokens=10)) == usual


async def test_ignore_eos_goes_on_to_the_limit() -> None:
    deltas = await answer(await make_engine(), make_job(ignore_eos=True, max_tokens=333))
    assert len(deltas) == 333
    assert deltas[-1].finish_reason == "length"


async def test_an_answer_that_fills_the_context_ends_by_length() -> None:
    engine = await make_engine(max_model_len=50)
    deltas = await answer(engine, make_job("x" * 40, ignore_eos=True))
    assert len(deltas) == 40
    assert deltas[-1].finish_reason == "length"


async def test_a_prompt_that_does_not_fit_is_refused_before_the_first_delta() -> None:
    engine = await make_engine(max_model_len=10)
    assert len(await answer(engine, make_job("x" * 36))) == 1
    with pytest.raises(InvalidRequest) as refused:
        await anext(engine.generate(make_job("x" * 37)))
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")
    assert engine.load() == IDLE


async def test_a_stop_string_ends_the_answer_before_it() -> None:
    engine = await make_engine(script={"q": "one two three two"})
    deltas = await answer(engine, make_job("q", stop=("thr", "two")))
    assert joined(deltas) == "one "
    assert deltas[-1].finish_reason == "stop"


async def test_a_stop_string_before_min_tokens_is_passed_over() -> None:
    engine = await make_engine(script={"q": "one two three two four"})
    assert await text_of(engine, make_job("q", stop=("two",), min_tokens=2)) == "one two three "


async def test_a_stop_string_beyond_max_tokens_does_not_count() -> None:
    engine = await make_engine(script={"q": "one two three"})
    deltas = await answer(engine, make_job("q", stop=("three",), max_tokens=2))
    assert (joined(deltas), deltas[-1].finish_reason) == ("one two", "length")


async def test_no_logprobs_are_given_unasked() -> None:
    assert {delta.logprobs for delta in await answer(await make_engine(), make_job())} == {()}


@pytest.mark.parametrize("top", [0, 1, 5])
async def test_logprobs_have_the_shape_of_openai(top: int) -> None:
    for delta in await answer(await make_engine(), make_job(top_logprobs=top)):
        [entry] = delta.logprobs
        assert entry["token"] == delta.text
        assert bytes(entry["bytes"]).decode() == delta.text
        ranked = entry["top_logprobs"]
        assert len(ranked) == top
        assert [item["logprob"] for item in ranked] == sorted((item["logprob"] for item in ranked), reverse=True)
        assert len({item["token"] for item in ranked}) == top
        assert sum(math.exp(item["logprob"]) for item in [entry, *ranked[1:]]) <= 1


async def test_load_counts_running_requests_and_waiting_prompts() -> None:
    engine = await make_engine()
    assert engine.load() == IDLE
    async with (
        aclosing(iterate(engine, make_job("x" * 40))) as first,
        aclosing(iterate(engine, make_job())) as second,
    ):
        assert engine.load() == IDLE, "a generator that was never iterated costs nothing"
        await anext(first)
        assert engine.load() == EngineLoad(1, 0)
        await anext(second)
        assert engine.load() == EngineLoad(2, 0)
    assert engine.load() == IDLE


async def test_a_finished_answer_leaves_the_load() -> None:
    engine = await make_engine()
    await answer(engine, make_job())
    assert engine.load() == IDLE


@pytest.mark.parametrize("after", range(6))
async def test_closing_at_any_point_leaves_the_load(after: int) -> None:
    engine = await make_engine()
    deltas = iterate(engine, make_job(max_tokens=5))
    for _ in range(min(after, 5)):
        await anext(deltas)
    await deltas.aclose()
    assert engine.load() == IDLE


@pytest.mark.parametrize("hang_after", [0, 2])
async def test_cancelling_a_hanging_answer_leaves_the_load(hang_after: int) -> None:
    engine = await make_engine(script={"q": {"text": "a b c d", "hang_after_tokens": hang_after}})
    seen: list[str] = []

    async def read() -> None:
        async for delta in engine.generate(make_job("q")):
            seen.append(delta.text)

    task = asyncio.create_task(read())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    assert len(seen) == hang_after
    assert engine.load() == EngineLoad(1, 0 if hang_after else 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.load() == IDLE


@pytest.mark.parametrize("fail_after", [0, 3])
async def test_a_scripted_failure_comes_after_so_many_tokens(fail_after: int) -> None:
    engine = await make_engine(script={"q": {"text": "a b c d", "fail_after_tokens": fail_after}})
    deltas = iterate(engine, make_job("q"))
    seen = [await anext(deltas) for _ in range(fail_after)]
    assert all(delta.finish_reason is None for delta in seen)
    with pytest.raises(Unavailable):
        await anext(deltas)
    assert engine.load() == IDLE


async def test_shutdown_ends_a_job_under_way() -> None:
    engine = await make_engine()
    deltas = iterate(engine, make_job())
    await anext(deltas)
    engine.shutdown()
    with pytest.raises(Unavailable):
        await anext(deltas)
    assert engine.load() == IDLE


async def test_the_script_answers_by_the_last_user_message() -> None:
    engine = await make_engine(script={"secret": "  exact\n\ttext ** é  ", "other": "no"})
    messages = (Message("user", "other"), Message("assistant", "other"), Message("user", "my secret, please"))
    job = GenerationJob("g", 0, messages, Sampling(min_tokens=50))
    assert await text_of(engine, job) == "  exact\n\ttext ** é  "


async def test_a_script_may_answer_nothing() -> None:
    engine = await make_engine(script={"q": ""})
    [delta] = await answer(engine, make_job("q", top_logprobs=1))
    assert (delta.text, delta.token_count, delta.finish_reason, delta.logprobs) == ("", 0, "stop", ())


async def test_a_script_may_answer_each_attempt_otherwise() -> None:
    engine = await make_engine(script={"q": ["bad", {"text": "good", "finish_reason": "repetition"}]})
    assert await text_of(engine, make_job("q", attempt=0)) == "bad"
    for attempt in (1, 2):
        [delta] = await answer(engine, make_job("q", attempt=attempt))
        assert (delta.text, delta.finish_reason) == ("good", "repetition")


async def test_a_script_goes_before_a_grammar() -> None:
    engine = await make_engine(script={"q": "not JSON"})
    grammar = {"type": "structural_tag", "format": {"type": "json_schema", "json_schema": {}}}
    assert await text_of(engine, make_job("q", grammar=grammar)) == "not JSON"


async def test_a_grammar_shapes_the_answer() -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    grammar = {"type": "structural_tag", "format": {"type": "json_schema", "json_schema": schema}}
    deltas = await answer(await make_engine(), make_job(grammar=grammar))
    assert list(json.loads(joined(deltas))) == ["title"]
    assert deltas[-1].finish_reason == "stop"


async def test_max_tokens_cuts_an_answer_in_a_grammar() -> None:
    grammar = {"type": "structural_tag", "format": {"type": "const_string", "value": "one two three"}}
    deltas = await answer(await make_engine(), make_job(grammar=grammar, max_tokens=2))
    assert (joined(deltas), deltas[-1].finish_reason) == ("one two", "length")


async def test_a_grammar_that_is_not_known_is_refused_and_leaves_the_load() -> None:
    engine = await make_engine()
    with pytest.raises(InvalidRequest, match="'grammar'"):
        await answer(engine, make_job(grammar={"type": "structural_tag", "format": {"type": "grammar"}}))
    assert engine.load() == IDLE


@pytest.mark.parametrize(
    "wrong",
    [
        {"token_s": -1},
        {"max_model_len": 0},
        {"unknown": 1},
        {"script": {"q": []}},
        {"script": {"q": {"texts": "x"}}},
        {"script": {"q": {"text": "x", "fail_after_tokens": -1}}},
        {"script": ["q"]},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SimulatedSettings.model_validate(wrong)


def test_settings_survive_a_round_trip() -> None:
    settings = SimulatedSettings.model_validate({"script": {"q": ["a", {"text": "b", "hang_after_tokens": 1}]}})
    assert SimulatedSettings.model_validate(settings.model_dump()) == settings
    assert SimulatedSettings.model_validate_json(settings.model_dump_json()) == settings
