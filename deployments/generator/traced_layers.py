"""The model's layers on CPUs as one list of operators: vLLM's eager mode without its modules of Python.

A step for one row of a 135M model spends a quarter of its time in Python between the products, and in ten operators of
torch for each normalisation, for which vLLM has a kernel that it uses on GPUs alone. `torch.compile` does away with
both for a minute or more at every start, and not with layers that are changed in place (`cpu_lora`,
`batch_invariance`). A trace takes two seconds, records what these layers do after the change, and runs the same kernels
in the same order as the layers do: bit for bit the same answers.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

from deployments.generator.traced_attention import shorten_attention

logger = logging.getLogger("rheostat")

TRACE_LAYERS = "trace_layers"
"""The method of the worker extension to call once the layers are as they stay."""
_MANY = 5
"""Rows of the trace for several: any number but 0 and 1, which torch takes for constants."""

Layers = Callable[..., Any]
"""``forward`` of the layers between the embedding and the logits: (input_ids, positions, ...) -> hidden states."""


class TracedLayersWorker:
    """Methods that vLLM adds to its worker."""

    model_runner: Any
    vllm_config: Any
    pairs_single_rows = False
    """Of `BatchInvariantWorker`."""
    grouped_rows: Sequence[Any] = ()
    """Of `GroupedLoraWorker`."""

    def trace_layers(self) -> int:
        """Puts traces in the place of the layers' ``forward``, which stays for batches with adapters.

        Returns:
            Traces in use: two, or one that is good for a single row too. 0: this model cannot be traced, and its layers
            run as modules.
        """
        model = self.model_runner.model
        # What vLLM itself would compile; an encoder beside a decoder is a second one.
        found = [each for each in model.modules() if hasattr(each, "do_not_compile")]
        if len(found) != 1:
            logger.info("the engine's layers are not traced: %d parts could be", len(found))
            return 0
        layers: Layers = found[0].forward
        try:
            use_norm_kernels(model)
            attention = self.vllm_config.compilation_config.static_forward_context
            many = trace(layers, _MANY, attention)
            is_doubled = self.pairs_single_rows and many.cuts_rows
            one = doubled(many) if is_doubled else trace(layers, 1, attention)
        except Exception:
            # Whatever a model's code does that a trace cannot hold: it answers all the same.
            logger.info("the engine's layers cannot be traced", exc_info=True)
            return 0
        found[0].forward = TracedLayers(layers, one, many, self.grouped_rows)
        return 1 if is_doubled else 2


class TracedLayers:
    """``forward`` of layers that chooses between a trace and the layers themselves.

    Args:
        layers: For what no trace holds: batches with adapters, inputs that are embedded already.
        one, many: The traces for one row and for several.
        grouped_rows: Which of the batch's rows have adapters.
    """

    def __init__(self, layers: Layers, one: "Trace", many: "Trace", grouped_rows: Sequence[Any]) -> None:
        self._layers = layers
        self._one = one
        self._many = many
        self._grouped_rows = grouped_rows

    def __call__(
        self,
        input_ids: Any,
        positions: Any,
        intermediate_tensors: Any = None,
        inputs_embeds: Any = None,
        **more: Any,
    ) -> Any:
        if (
            input_ids is None
            or intermediate_tensors is not None
            or inputs_embeds is not None
            or more
            or positions.dim() != 1
            or input_ids.shape[0] > self._many.most_rows
            or any(rows.has_adapters for rows in self._grouped_rows)
        ):
            return self._layers(input_ids, positions, intermediate_tensors, inputs_embeds, **more)
        trace = self._one if input_ids.shape[0] == 1 else self._many
        return trace.forward(input_ids, positions)


@dataclass(frozen=True, slots=True)
class Trace:
    """Layers as a list of operators."""

    forward: Layers
    """(input_ids, positions) -> hidden states."""
    most_rows: float
    """As many at most; infinity: any number."""
    cuts_rows: bool = False
    """Takes more rows than the step has tokens, whose results mean nothing."""


def doubled(several: Trace) -> Trace:
    """The trace for one row by that for several: the row twice, once, in place of twice before each product.

    Where single rows are paired (`batch_invariance`), the products are the same ones, so the result is, bit for bit.
    """

    def forward(input_ids: Any, positions: Any) -> Any:
        return several.forward(input_ids.repeat(2), positions.repeat(2))[:1]

    return Trace(forward, 1)


def trace(layers: Layers, rows: int, attention: Mapping[str, Any]) -> Trace:
    """``layers`` as a list of operators, for one row, or where ``rows`` is not one for any number above one.

    Args:
        attention: vLLM's attention layers by name.

    Raises:
        ValueError: What was recorded holds for some numbers of rows only.
        Exception: Whatever the layers raise under a trace.
    """
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    inputs = torch.zeros(rows, dtype=torch.int32), torch.zeros(rows, dtype=torch.int64)
    with torch.no_grad():
        recorded = make_fx(
            lambda input_ids, positions: layers(input_ids, positions, None, None),
            tracing_mode="symbolic",
            _allow_non_fake_inputs=True,
        )(*inputs)
    shapes = recorded.shape_env
    assert shapes is not None
    most_rows = _most_rows(guard.expr for guard in shapes.guards)
    _drop_idle(recorded.graph)
    cuts_rows = bool(attention) and shorten_attention(recorded.graph, attention)
    code = recorded.graph.python_code("self")
    names: dict[str, Any] = dict(code.globals)
    exec(code.src, names)  # torch's own source text of the graph: GraphModule does the same
    constants = SimpleNamespace(
        **{node.target: getattr(recorded, node.target) for node in recorded.graph.nodes if node.op == "get_attr"}
    )
    forward: Layers = names["forward"]
    # A module would look each constant up by a method of Python.
    return Trace(partial(forward, constants), most_rows, cuts_rows)


def _most_rows(guards: Iterable[Any]) -> float:
    """Up to which number of rows these conditions hold, such as that of a buffer for so many."""
    most = math.inf
    for guard in guards:
        if not (guard.is_Relational and guard.rel_op == "<=" and guard.lhs.is_Symbol and guard.rhs.is_Integer):
            raise ValueError(f"the layers ask for the number of rows: {guard}")
        most = min(most, int(guard.rhs))
    return most


def _drop_idle(graph: Any) -> None:
    """Takes out views of a shape that is there already, and detachments: neither does anything without gradients."""
    import torch

    for node in list(graph.nodes):
        if node.target is torch.ops.aten.view.default:
            source = node.args[0]
            idle = "val" in source.meta and source.meta["val"].shape == node.meta["val"].shape
        else:
            idle = node.target is torch.ops.aten.detach.default
        if idle:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def use_norm_kernels(model: Any) -> int:
    """Gives every ``RMSNorm`` of the model vLLM's kernel for it.

    Returns:
        Layers that use it now.
    """
    import torch
    from vllm.model_executor.layers.layernorm import RMSNorm

    for name in ("rms_norm", "fused_add_rms_norm"):
        try:
            # Both write to their arguments and return nothing.
            torch.library.register_fake(f"_C::{name}")(lambda *_: None)
        except RuntimeError:
            logger.debug("%s has a fake already", name)
    changed = 0
    for layer in model.modules():
        if type(layer) is RMSNorm and layer.has_weight and layer.variance_size_override is None:
            otherwise = layer.forward
            layer.forward = norm_kernel(layer.weight.data, layer.variance_epsilon, otherwise)  # type: ignore[method-assign]
            changed += 1
    return changed


def norm_kernel(weight: Any, epsilon: float, otherwise: Layers) -> Layers:
    """RMS normalisation by vLLM's kernel: (x, residual | None) -> normalised, or with ``residual`` the sum as well.

    As `ir.ops.fused_add_rms_norm.maybe_inplace` of vLLM may, it writes over both inputs where there is a residual.

    Args:
        weight: (hidden,).
        otherwise: For what the kernel does not take: strided rows, another type of float.
    """
    import torch

    norm = torch.ops._C.rms_norm.default
    add_norm = torch.ops._C.fused_add_rms_norm.default

    def forward(x: Any, residual: Any = None) -> Any:
        strided = not x.is_contiguous() or (residual is not None and not residual.is_contiguous())
        if strided or x.dtype != weight.dtype:
            return otherwise(x, residual)
        if residual is None:
            out = torch.empty_like(x)
            norm(out, x, weight, epsilon)
            return out
        add_norm(x, residual, weight, epsilon)
        return x, residual

    return forward
