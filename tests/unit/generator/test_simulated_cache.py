"""The simulated prefix cache finds what vLLM's would: whole blocks, from the first on, of one tenant and adapter."""

import pytest

from deployments.generator.simulated import SimulatedEngine, SimulatedSettings
from deployments.generator.simulated_cache import BlockCache, SimulatedCache
from deployments.generator.simulated_tokens import count_prompt_tokens
from graph.contracts import GenerationJob, Message, Role, Sampling

BLOCK_TOKENS = 16
BLOCK_CHARS = 64


def prompt(blocks: float, name: str = "x") -> str:
    """A text of so many blocks, which no other name has."""
    return (f"{name} likes long texts. " * 1000)[: int(blocks * BLOCK_CHARS)]


def job(*texts: str, salt: str | None = None, adapter: str | None = None) -> GenerationJob:
    roles: tuple[Role, ...] = ("user", "assistant")
    messages = tuple(Message(roles[at % 2], text) for at, text in enumerate(texts))
    return GenerationJob("g", 0, messages, Sampling(), cache_salt=salt, adapter=adapter)


def cache(blocks: int = 1000) -> BlockCache:
    return BlockCache(SimulatedCache(blocks=blocks, block_tokens=BLOCK_TOKENS))


def test_a_prompt_that_comes_again_is_found_but_for_its_last_part() -> None:
    held = cache()
    assert held.find(job(prompt(4.5))) == 0
    assert held.find(job(prompt(4.5))) == 4 * BLOCK_TOKENS


@pytest.mark.parametrize("blocks", [0.1, 0.5, 1, 1.01, 2, 2.99, 3])
def test_less_is_found_than_the_prompt_has(blocks: float) -> None:
    held, asked = cache(), job(prompt(blocks))
    held.find(asked)
    assert held.find(asked) < count_prompt_tokens(asked.messages)


def test_the_next_turn_finds_what_the_turn_before_had() -> None:
    held = cache()
    held.find(job(prompt(3)))
    assert held.find(job(prompt(3), "An answer.", "And then?")) == 2 * BLOCK_TOKENS
    assert held.find(job(prompt(3), "An answer.", "And then?", "More.", prompt(2))) == 3 * BLOCK_TOKENS


def test_two_prompts_share_what_they_begin_with() -> None:
    held = cache()
    held.find(job(prompt(4) + "Why?" + prompt(2, "y")))
    assert held.find(job(prompt(4) + "How?" + prompt(2, "z"))) == 4 * BLOCK_TOKENS


def test_the_same_words_after_other_words_are_not_found() -> None:
    held = cache()
    held.find(job(prompt(4, "x") + prompt(4, "y")))
    assert held.find(job(prompt(4, "z") + prompt(4, "y"))) == 0


def test_tenants_and_adapters_find_nothing_of_each_other() -> None:
    held = cache()
    held.find(job(prompt(4)))
    assert held.find(job(prompt(4), salt="another")) == 0
    assert held.find(job(prompt(4), adapter="another")) == 0


def test_what_was_used_longest_ago_makes_room_and_of_that_the_end_first() -> None:
    held = cache(blocks=8)
    held.find(job(prompt(4.5, "x")))
    held.find(job(prompt(4.5, "y")))
    held.find(job(prompt(4.5, "x")))
    held.find(job(prompt(2.5, "z")))
    assert held.find(job(prompt(4.5, "y"))) == 2 * BLOCK_TOKENS


async def test_an_engine_with_a_cache_tells_what_it_found_in_every_delta() -> None:
    engine = SimulatedEngine(
        SimulatedSettings(first_token_s=0, token_s=0, cache=SimulatedCache(blocks=10, block_tokens=BLOCK_TOKENS))
    )
    await engine.start()
    told = [{delta.cached_tokens async for delta in engine.generate(job(prompt(4.5)))} for _ in range(2)]
    assert told == [{0}, {4 * BLOCK_TOKENS}]


async def test_an_engine_without_one_finds_nothing() -> None:
    engine = SimulatedEngine(SimulatedSettings(first_token_s=0, token_s=0))
    await engine.start()
    told = [{delta.cached_tokens async for delta in engine.generate(job(prompt(4.5)))} for _ in range(2)]
    assert told == [{0}, {0}]


async def test_a_job_of_an_adapter_that_is_not_there_finds_the_base_models_blocks() -> None:
    settings = SimulatedSettings(first_token_s=0, token_s=0, cache=SimulatedCache(blocks=10, block_tokens=BLOCK_TOKENS))
    engine = SimulatedEngine(settings)
    await engine.start()
    async for _ in engine.generate(job(prompt(4.5))):
        pass
    told = {delta.cached_tokens async for delta in engine.generate(job(prompt(4.5), adapter="gone"))}
    assert told == {4 * BLOCK_TOKENS}
