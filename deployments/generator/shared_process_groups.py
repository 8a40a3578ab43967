"""One process group for an engine of one process: vLLM opens a dozen, and each wakes a thread 100 times a second.

vLLM 0.32 makes two groups for each kind of parallelism, used or not. On CPUs all are gloo's, and each has a thread that
looks for messages every 10 ms (``gloo/transport/tcp/loop.cc``). Thirteen of them, 1,290 wake-ups a second, took 2% of a
core from an idle engine, and each pushes a thread that computes off its core for a moment. In a group of one there is
nobody to send to.
"""

from typing import Any

SHARE_PROCESS_GROUPS = "share_process_groups"
"""The method of the extension to call once the model is loaded."""
_PARTS = ("device_group", "cpu_group")


class SharedProcessGroupsWorker:
    """Methods that vLLM adds to its worker."""

    def share_process_groups(self) -> int:
        """Puts the one group of this process in the place of all others, where it computes alone.

        Returns:
            Groups closed; 0 where several processes compute, which need theirs.
        """
        import torch.distributed as dist
        from vllm.distributed import parallel_state

        if dist.get_world_size() != 1:
            return 0
        world: Any = dist.group.WORLD
        # A vLLM that keeps them elsewhere has its groups as it made them.
        coordinators: list[Any] = [made() for made in getattr(parallel_state, "_groups", {}).values()]
        closed = 0
        for coordinator in filter(None, coordinators):
            for part in _PARTS:
                group = getattr(coordinator, part)
                if group is not world:
                    setattr(coordinator, part, world)
                    dist.destroy_process_group(group)
                    closed += 1
            # The world's group ends last and once, by `destroy_distributed_environment`.
            coordinator.destroy = _nothing
        return closed


def _nothing() -> None:
    pass
