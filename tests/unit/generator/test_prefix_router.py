"""The Generator's router among replicas of the tests' own, which refuse, die and come: Ray's loops, no cluster."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError
from ray.serve._private.common import DeploymentHandleSource, DeploymentID, RequestMetadata
from ray.serve.config import RequestRouterConfig
from ray.serve.request_router import PendingRequest, ReplicaID, RunningReplica

from deployments.generator.placement import PlacementSettings, max_load, preference
from deployments.generator.prefix_router import PrefixRouter
from graph.contracts import GenerationJob, Message, PrefixKey, Sampling
from tests.unit.graph.test_imports import heavy_modules_after

GENERATOR = DeploymentID("Generator", "rheostat")
KEY = PrefixKey(11, 12)
LIMIT = 64


class FakeReplica:
    """What a router reads of a replica, and the answer to how many requests it has."""

    def __init__(self, name: str, load: int = 0) -> None:
        self.replica_id = ReplicaID(name, GENERATOR)
        self.max_ongoing_requests = LIMIT
        self.load = load
        self.was_asked = asyncio.Event()

    async def get_queue_len(self, *, deadline_s: float) -> int:
        self.was_asked.set()
        return self.load


async def make_router(replicas: list[FakeReplica], **settings: Any) -> PrefixRouter:
    """A router that has heard of each replica once, as one has that is not new; no prefix is popular there."""
    router = PrefixRouter(GENERATOR, DeploymentHandleSource.REPLICA, use_replica_queue_len_cache=True)
    router.initialize_state(**{"window": 100_000, **settings})
    await show(router, replicas)
    return router


async def show(router: PrefixRouter, replicas: list[FakeReplica]) -> None:
    """What Ray does when replicas come or go."""
    new = [replica for replica in replicas if replica.replica_id not in router.curr_replicas]
    router.update_replicas(replicas)  # type: ignore[arg-type]
    await asyncio.gather(*(replica.was_asked.wait() for replica in new))
    while any(router.replica_queue_len_cache.get(replica.replica_id) is None for replica in new):
        await asyncio.sleep(0)


def request(key: PrefixKey | None = KEY, internal_id: str | None = None) -> PendingRequest:
    job = GenerationJob("g", 0, (Message("user", "Why?"),), Sampling(), prefix=key)
    request.count += 1  # type: ignore[attr-defined]
    internal_id = internal_id or f"internal-{request.count}"  # type: ignore[attr-defined]
    return PendingRequest([job], {}, RequestMetadata(request_id="r", internal_request_id=internal_id))


request.count = 0  # type: ignore[attr-defined]


async def send(router: PrefixRouter, pending: PendingRequest, *, is_retry: bool = False) -> str:
    """As Ray sends a request: without a pause between the choice and the count."""
    replica: RunningReplica = await router._choose_replica_for_request(pending, is_retry=is_retry)
    router.on_send_request(replica.replica_id)
    return replica.replica_id.unique_id


def end(router: PrefixRouter, name: str) -> None:
    router.on_request_completed(ReplicaID(name, GENERATOR), "internal")
    router.decrement_queue_len_cache(ReplicaID(name, GENERATOR))


def fakes(names: str = "abcd") -> list[FakeReplica]:
    return [FakeReplica(name) for name in names]


async def test_the_turns_of_a_conversation_go_to_one_replica() -> None:
    router = await make_router(fakes())
    homes = set()
    for _ in range(20):
        homes.add(name := await send(router, request()))
        end(router, name)
    assert homes == {preference(KEY, "abcd", 1)[0]}


async def test_a_burst_is_spread_though_all_of_it_is_placed_before_any_is_sent() -> None:
    router = await make_router(fakes())
    placed = Counter(await asyncio.gather(*(send(router, request()) for _ in range(100))))
    settings = PlacementSettings()
    assert max(placed.values()) <= max_load(100, 4, settings.bound, settings.slack)
    assert len(placed) == 4


async def test_requests_that_others_sent_count_as_soon_as_the_replica_tells_of_them() -> None:
    replicas = fakes()
    router = await make_router(replicas)
    home, second = preference(KEY, "abcd", 1)[:2]
    router.on_new_queue_len_info(ReplicaID(home, GENERATOR), 20)
    assert await send(router, request()) == second


async def test_what_this_router_has_under_way_counts_though_ray_has_heard_nothing_lately() -> None:
    router = await make_router(fakes())
    home, second = preference(KEY, "abcd", 1)[:2]
    for _ in range(20):
        router.on_send_request(ReplicaID(home, GENERATOR))
    router.replica_queue_len_cache.invalidate_key(ReplicaID(home, GENERATOR))
    assert await send(router, request()) == second
    for _ in range(20):
        router.on_request_completed(ReplicaID(home, GENERATOR), "internal")
    assert await send(router, request()) == home


async def test_a_request_that_was_refused_goes_to_the_next_replica() -> None:
    router = await make_router(fakes())
    home, second = preference(KEY, "abcd", 1)[:2]
    pending = request()
    assert await send(router, pending) == home
    # Ray tells what the replica answered, then that the call is over, and tries again.
    router.on_new_queue_len_info(ReplicaID(home, GENERATOR), LIMIT)
    router.on_request_completed(ReplicaID(home, GENERATOR), "internal")
    assert await send(router, pending, is_retry=True) == second


async def test_a_request_that_its_replica_turns_out_to_have_no_room_for_is_offered_to_all_others_at_once() -> None:
    router = await make_router(fakes())
    candidates = list(router.curr_replicas.values())
    ranks = await router.choose_replicas(candidates, request())
    first, second, *others = preference(KEY, "abcd", 1)
    assert [sorted(replica.replica_id.unique_id for replica in rank) for rank in ranks] == [
        [first],
        [second],
        sorted(others),
    ]


async def test_a_request_waits_where_all_replicas_are_full_and_goes_to_the_first_that_has_room() -> None:
    replicas = [FakeReplica(name, LIMIT) for name in "abcd"]
    router = await make_router(replicas)
    waiting = asyncio.create_task(send(router, request()))
    while router.num_routing_tasks_in_backoff == 0:
        await asyncio.sleep(0)
    other = replicas[2]
    other.load = 3
    assert await asyncio.wait_for(waiting, 30) == other.replica_id.unique_id


async def test_all_requests_made_for_one_http_request_get_a_replica() -> None:
    router = await make_router(fakes())
    drafts = [request(internal_id="shared") for _ in range(8)]
    placed = await asyncio.wait_for(asyncio.gather(*(send(router, draft) for draft in drafts)), 30)
    assert len(placed) == 8
    assert router.num_pending_requests == 0


async def test_each_request_gets_the_replica_that_was_chosen_for_it() -> None:
    router = await make_router(fakes())
    keys = [PrefixKey(each, each) for each in range(40, 52)]
    placed = await asyncio.gather(*(send(router, request(key, "shared")) for key in keys))
    assert placed == [preference(key, "abcd", 1)[0] for key in keys]


async def test_a_request_that_nobody_waits_for_any_more_leaves_nothing_behind() -> None:
    replicas = [FakeReplica(name, LIMIT) for name in "abcd"]
    router = await make_router(replicas)
    waiting = asyncio.create_task(send(router, request()))
    while router.num_routing_tasks_in_backoff == 0:
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    for replica in replicas:
        router.on_new_queue_len_info(replica.replica_id, 0)
    assert await send(router, request()) == preference(KEY, "abcd", 1)[0]
    await asyncio.sleep(0)
    assert not router._waiting
    assert not router._claims


async def test_requests_that_ended_count_no_more() -> None:
    router = await make_router(fakes())
    placed = await asyncio.gather(*(send(router, request()) for _ in range(50)))
    for name in placed:
        end(router, name)
    assert not router._under_way
    assert await send(router, request()) == preference(KEY, "abcd", 1)[0]


async def test_a_replica_that_died_or_drains_gets_no_more_and_one_that_comes_gets_its_keys() -> None:
    replicas = fakes()
    router = await make_router(replicas)
    home, second = preference(KEY, "abcd", 1)[:2]
    router.on_replica_actor_died(ReplicaID(home, GENERATOR))
    assert await send(router, request()) == second
    end(router, second)
    await show(router, [replica for replica in replicas if replica.replica_id.unique_id not in (home, second)])
    third = preference(KEY, "abcd", 1)[2]
    assert await send(router, request()) == third
    end(router, third)
    await show(router, replicas)
    assert await send(router, request()) == home


async def test_a_single_replica_is_taken_without_a_look_at_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    router = await make_router(fakes("a"))
    monkeypatch.setattr(router, "_placement", None)
    drafts = [request(internal_id="shared") for _ in range(8)]
    assert await asyncio.wait_for(asyncio.gather(*(send(router, draft) for draft in drafts)), 30) == ["a"] * 8
    assert not router._claims


async def test_a_replica_whose_load_ray_forgot_is_still_the_first_to_be_asked() -> None:
    # Ray forgets what it heard 10 s ago; a quiet service must not lose its caches by that.
    replicas = fakes()
    router = await make_router(replicas)
    home = preference(KEY, "abcd", 1)[0]
    router.replica_queue_len_cache.invalidate_key(ReplicaID(home, GENERATOR))
    assert await send(router, request()) == home


async def test_calls_without_a_prefix_go_to_the_least_busy() -> None:
    router = await make_router(fakes())
    for name, load in zip("abcd", (3, 1, 2, 3), strict=True):
        router.on_new_queue_len_info(ReplicaID(name, GENERATOR), load)
    assert await send(router, request(None)) == "b"
    no_arguments = PendingRequest([], {}, RequestMetadata(request_id="r", internal_request_id="info"))
    router.on_new_queue_len_info(ReplicaID("b", GENERATOR), 5)
    assert await send(router, no_arguments) == "c"


async def test_settings_reach_the_placement_and_unknown_ones_are_refused() -> None:
    router = await make_router(fakes(), slack=0)
    home, second = preference(KEY, "abcd", 1)[:2]
    router.on_new_queue_len_info(ReplicaID(home, GENERATOR), 1)
    assert await send(router, request()) == second
    with pytest.raises(ValidationError, match="bounds"):
        router.initialize_state(bounds=1.5)


def test_it_ships_by_value_as_serve_ships_it() -> None:
    config = RequestRouterConfig(request_router_class=PrefixRouter, request_router_kwargs={"bound": 1.5})  # type: ignore[arg-type]
    shipped = config.get_request_router_class()
    assert shipped.__name__ == PrefixRouter.__name__
    assert len(config.get_serialized_request_router_cls() or b"") < 100_000


def test_it_brings_nothing_heavy_to_those_it_is_shipped_to() -> None:
    assert heavy_modules_after("import deployments.generator.prefix_router") <= {"ray"}
