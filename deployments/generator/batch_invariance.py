"""The same answer in any company: on CPUs, vLLM's sums are made independent of what shares a batch.

Greedy decoding is exact, but a sum of bfloat16 depends on its order, and in vLLM 0.32 two orders depend on the batch:
attention splits a long context over idle cores (``VLLM_CPU_ATTN_SPLIT_KV``), and oneDNN multiplies a single row by
another kernel than several rows. GPUs have ``VLLM_BATCH_INVARIANT`` of vLLM's own.
"""

from collections.abc import Callable
from typing import Any

CPU_ENVIRONMENT = {"VLLM_CPU_ATTN_SPLIT_KV": "0"}
GPU_ENVIRONMENT = {"VLLM_BATCH_INVARIANT": "1"}
PAIR_SINGLE_ROWS = "pair_single_rows"
"""The method of the extension to call once the model is loaded."""

Linear = Callable[..., Any]
"""vLLM's ``layer.cpu_linear``: (rows of K, weight, bias) -> rows of N."""


class BatchInvariantWorker:
    """Methods that vLLM adds to its worker."""

    model_runner: Any
    pairs_single_rows = False

    def pair_single_rows(self) -> int:
        """Multiplies a single row as one of two equal ones, in every linear layer of the loaded model.

        Returns:
            Layers that do so now.
        """
        layers = [each for each in self.model_runner.model.modules() if callable(getattr(each, "cpu_linear", None))]
        for layer in layers:
            layer.cpu_linear = paired(layer.cpu_linear)
        self.pairs_single_rows = True
        return len(layers)


def paired(linear: Linear) -> Linear:
    """``linear`` with a single row doubled before and halved after; several rows go through as they are."""

    def multiply(x: Any, weight: Any, bias: Any = None) -> Any:
        if x.numel() != x.shape[-1]:
            return linear(x, weight, bias)
        both = linear(x.reshape(1, -1).repeat(2, 1), weight, bias)
        return both[:1].reshape(*x.shape[:-1], both.shape[-1])

    return multiply
