"""The simulated caches under made-up traffic: what is compared with what, and what comes out."""

import random

import pytest

from benchmarks.prefix.aims import missed_live, missed_simulated
from benchmarks.prefix.policies import PREFIX, OnlyOne, Policy, PowerOfTwo, Prefix, RoundRobin, StrictRing
from benchmarks.prefix.simulation import Figures, Prompt, prompts_of, simulate
from benchmarks.prefix.traffic import Conversation, Mix, conversations
from deployments.generator.placement import PlacementSettings
from deployments.generator.simulated_cache import SimulatedCache
from graph.contracts import Message

SEED = 11
NAMES = ("kq3x8a1z", "p0f7mmw2", "zz81hbtu", "a9c4e6g0")
BLOCK_TOKENS = 32
CACHE = SimulatedCache(blocks=2000, block_tokens=BLOCK_TOKENS)
Made = list[tuple[float, list[Prompt]]]


@pytest.fixture(scope="module")
def made() -> Made:
    held = conversations(Mix(), 2000, SEED)
    return [(each.starts_s, prompts_of(each, number, BLOCK_TOKENS)) for number, each in enumerate(held)]


def one_replica(made: Made, cache: SimulatedCache) -> Figures:
    return simulate(made, OnlyOne, 1, cache, 1)


def by_prefix() -> Policy:
    return Prefix(NAMES, PlacementSettings(), 256)


def test_a_turn_repeats_all_that_was_said_before() -> None:
    held = Conversation(0.0, "acme", "Be brief.", ["Why?", "How?"], [50, 50], [1.0, 1.0])
    assert held.messages(0, []) == (Message("system", "Be brief."), Message("user", "Why?"))
    assert held.messages(1, ["So."]) == (
        *held.messages(0, []),
        Message("assistant", "So."),
        Message("user", "How?"),
    )


def test_turns_of_a_conversation_share_a_key_and_what_stood_before_the_last_directive() -> None:
    held = next(each for each in conversations(Mix(), 500, SEED) if len(each.questions) > 2)
    first, second, third = prompts_of(held, 0, BLOCK_TOKENS)[:3]
    assert first.key == second.key == third.key
    assert second.blocks[: len(first.blocks) - 1] == first.blocks[:-1]
    assert third.blocks[: len(second.blocks) - 1] == second.blocks[:-1]


def test_the_same_seed_makes_the_same_traffic_and_as_much_of_it_as_was_asked_for() -> None:
    assert conversations(Mix(), 300, SEED) == conversations(Mix(), 300, SEED) != conversations(Mix(), 300, SEED + 1)
    assert 300 <= sum(len(each.questions) for each in conversations(Mix(), 300, SEED)) < 400


def test_by_prefix_four_caches_find_nine_tenths_of_one_big_one_and_no_replica_is_overrun(made: Made) -> None:
    all_caches = SimulatedCache(blocks=4 * CACHE.blocks, block_tokens=BLOCK_TOKENS)
    found = simulate(made, by_prefix, 4, CACHE, 2)
    assert found.hits >= 0.9 * one_replica(made, all_caches).hits
    assert found.hits > 1.2 * one_replica(made, CACHE).hits
    assert found.busiest <= 1.3
    assert found.busiest_at_once <= 1.3


def test_what_serve_ships_finds_less_or_overruns_a_replica(made: Made) -> None:
    found = simulate(made, by_prefix, 4, CACHE, 2)
    scattered = (simulate(made, make, 4, CACHE, 2) for make in (RoundRobin, lambda: PowerOfTwo(random.Random(SEED))))
    assert all(each.hits < 0.85 * found.hits for each in scattered)
    strict = simulate(made, lambda: StrictRing(NAMES, lambda key: key.beginning), 4, CACHE, 2)
    assert strict.busiest > 1.3


@pytest.mark.parametrize("mix", ["mixed", "many applications"])
@pytest.mark.parametrize(
    ("hits", "busiest", "misses"), [(0.9, 1.3, 0), (0.899, 1.3, 1), (0.9, 1.301, 1), (0.5, 3.0, 2)]
)
def test_every_mix_has_to_reach_both_aims(mix: str, hits: float, busiest: float, misses: int) -> None:
    rows = {name: {PREFIX: {"hits_of_one": 0.95, "busiest": 1.1}} for name in ("mixed", "many applications", "quiet")}
    rows[mix][PREFIX] = {"hits_of_one": hits, "busiest": busiest}
    missed = missed_simulated(rows)
    assert len(missed) == misses
    assert all(text.startswith(f"{mix}: ") for text in missed)


def test_over_serve_no_request_may_fail_whoever_routed_it() -> None:
    reached = {"hits_of_one": 0.95, "busiest": 1.1, "failed": 0}
    assert missed_live({PREFIX: reached, "another": {"hits_of_one": 0.3, "busiest": 3.0, "failed": 0}}) == []
    assert len(missed_live({PREFIX: reached, "another": reached | {"failed": 2}})) == 1
    assert len(missed_live({PREFIX: reached | {"hits_of_one": 0.89}, "another": reached})) == 1


def test_the_same_policy_comes_out_the_same(made: Made) -> None:
    assert simulate(made, by_prefix, 4, CACHE, 2) == simulate(made, by_prefix, 4, CACHE, 2)
