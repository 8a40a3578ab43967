"""Ray's ``ConsistentHashRouter`` with what it needs to know: the conversation as the session. For comparison only.

It reads the session from the handle's options. The proxy sets them for the ingress and nobody for what the ingress
calls, so as it is it would spread the Generator's requests at random.
"""

from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter
from ray.serve.request_router import PendingRequest

from graph.contracts import GenerationJob


class SessionRing(ConsistentHashRouter):
    """Routes a generation by its conversation, anything else as Ray does."""

    def _routing_key(self, pending_request: PendingRequest | None) -> str | None:
        job = pending_request.args[0] if pending_request is not None and pending_request.args else None
        if isinstance(job, GenerationJob) and job.prefix is not None:
            return str(job.prefix.conversation)
        return super()._routing_key(pending_request)
