"""What Rheostat adds to vLLM's worker on CPUs; for vLLM's ``worker_extension_cls``."""

from deployments.generator.batch_invariance import BatchInvariantWorker
from deployments.generator.cpu_lora import GroupedLoraWorker
from deployments.generator.shared_process_groups import SharedProcessGroupsWorker
from deployments.generator.traced_layers import TracedLayersWorker

WORKER_EXTENSION = f"{__name__}.CpuWorker"


class CpuWorker(BatchInvariantWorker, GroupedLoraWorker, SharedProcessGroupsWorker, TracedLayersWorker):
    """Each of its methods is called once, if its feature is on."""
