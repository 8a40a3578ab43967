"""What Rheostat adds to vLLM's worker on CPUs; for vLLM's ``worker_extension_cls``."""

from deployments.generator.batch_invariance import BatchInvariantWorker
from deployments.generator.cpu_lora import GroupedLoraWorker

WORKER_EXTENSION = f"{__name__}.CpuWorker"


class CpuWorker(BatchInvariantWorker, GroupedLoraWorker):
    """Each of its methods is called once, if its feature is on."""
