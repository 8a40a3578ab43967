"""Serve's router of requests to the Generator's replicas: shell of ``deployments/generator/placement.py``.

``request_router_class: deployments.generator.prefix_router:PrefixRouter`` in a Serve configuration; the fields of
``PlacementSettings`` are ``request_router_kwargs``. Serve ships this class by value to every caller of the Generator.

A request's key is in its first argument, which the router sees before it is sent: a handle of its own a request, as
``options(session_id=...)`` makes, is not needed. A replica's load is what this router has under way there, or what Ray
last heard of it if that is more: a replica tells its load, other callers' requests included, whenever it accepts or
refuses one. Nothing is asked beyond what Ray asks: the load of a replica that it heard nothing of for 10 s
(``RAY_SERVE_QUEUE_LENGTH_CACHE_TIMEOUT_S``), or that was full.

A single replica is taken without a look at the request.

Refusals, backing off, and replicas that come, drain or die are Ray's: after the one that was chosen, it is offered the
second, then the least busy of the others.
"""

import asyncio
from collections import Counter
from functools import partial
from typing import Any

from ray.serve._private.common import RequestMetadata
from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica
from ray.util import metrics

from deployments.generator.placement import Placement, PlacementSettings, ReplicaLoad
from graph.contracts import GenerationJob, PrefixKey


class PrefixRouter(RequestRouter):
    """One a caller's process and deployment, whatever the number of its handles; runs in one event loop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._placement = Placement(PlacementSettings())
        self._under_way: Counter[ReplicaID] = Counter()
        # Both by ``id`` of a request's metadata, of which each has its own.
        self._waiting: dict[int, PendingRequest] = {}
        self._claims: dict[int, ReplicaID] = {}
        """Chosen and not sent yet: a burst is placed before the first of it is sent."""
        self._placed = metrics.Counter(
            "rheostat_prefix_placements_total",
            description="Requests by whether they went to the replica that their prefix prefers.",
            tag_keys=("choice",),
        )

    def initialize_state(self, **kwargs: Any) -> None:
        self._placement = Placement(PlacementSettings.model_validate(kwargs))

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Ranks to be tried in turn; of a rank, Ray takes the least busy."""
        if pending_request is None:
            return [candidate_replicas]
        is_first_try = not pending_request.routing_context.should_backoff
        # Without it Ray would try again at once, for ever.
        pending_request.routing_context.should_backoff = True
        self._wait_for(pending_request)
        key = _key_of(pending_request)
        if key is None or len(candidate_replicas) < 2:
            return [candidate_replicas]
        # A request that was tried before and waits goes wherever room is first: it claims none.
        self._claims.pop(id(pending_request.metadata), None)
        if is_first_try:
            self._placement.count(key)
        replicas = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        ranking = self._placement.rank(key, self._loads(candidate_replicas))
        first, *others = (replicas[name] for name in ranking.names)
        if is_first_try:
            self._claims[id(pending_request.metadata)] = first.replica_id
            self._placed.inc(tags={"choice": "preferred" if ranking.is_at_home else "other"})
        return [rank for rank in ([first], others[:1], others[1:]) if rank]

    def on_send_request(self, replica_id: ReplicaID) -> None:
        super().on_send_request(replica_id)
        self._under_way[replica_id] += 1

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Called once for each request that was sent, also when it was refused or cancelled."""
        super().on_request_completed(replica_id, internal_request_id)
        if self._under_way[replica_id] > 1:
            self._under_way[replica_id] -= 1
        else:
            del self._under_way[replica_id]

    def _loads(self, candidates: list[RunningReplica]) -> list[ReplicaLoad]:
        claimed = Counter(self._claims.values())
        heard = self.replica_queue_len_cache
        return [
            ReplicaLoad(
                replica.replica_id.unique_id,
                max(self._under_way[replica.replica_id], heard.get(replica.replica_id) or 0)
                + claimed[replica.replica_id],
                replica.max_ongoing_requests,
            )
            for replica in candidates
        ]

    def _wait_for(self, request: PendingRequest) -> None:
        """Remembers a request until it has a replica, or nobody waits for it any more."""
        place = id(request.metadata)
        if place not in self._waiting:
            self._waiting[place] = request
            # Ray's own callback, which sends the request, was added before: its load is counted when this one runs.
            request.future.add_done_callback(partial(self._forget, place))

    def _forget(self, place: int, _future: "asyncio.Future[RunningReplica]") -> None:
        self._waiting.pop(place, None)
        self._claims.pop(place, None)

    def _fulfill_next_pending_request(
        self, replica: RunningReplica, request_metadata: RequestMetadata | None = None
    ) -> None:
        """Gives a replica to the request that it was chosen for.

        Ray 2.60 finds that one by an id that all calls made for one HTTP request share, and keeps only the first of
        them: the second of two drafts asked for at once would never get a replica.
        """
        request = self._waiting.get(id(request_metadata))
        if request is None or request.future.done():
            return
        self._record_queue_wait_time(request)
        request.future.set_result(replica)
        self._remove_pending_request_from_indices(request)


def _key_of(request: PendingRequest) -> PrefixKey | None:
    job = request.args[0] if request.args else None
    return job.prefix if isinstance(job, GenerationJob) else None
