"""Attention in a trace of the layers: a layer's two kernels called at once, without operators of Python around them.

vLLM 0.32 goes through two operators of its own a layer, each of which torch dispatches back into Python to look up the
layer, its cache and the step's metadata, and to cut the cache in two. In a trace the layer is known, and its cache too.
"""

from collections.abc import Callable, Mapping
from typing import Any

Attend = Callable[[Any, Any, Any, Any], None]
"""(query, key, value, output): puts keys and values into the layer's cache, and what they say into ``output``."""


def shorten_attention(graph: Any, layers: Mapping[str, Any]) -> bool:
    """Puts an `Attend` in the place of vLLM's operators, for every layer of the graph or for none.

    Args:
        graph: A ``torch.fx.Graph``.
        layers: vLLM's attention layers by name.

    Returns:
        Whether it did.
    """
    import torch
    from vllm.distributed.kv_transfer import has_kv_transfer_group

    update, attend = (
        torch.ops.vllm.unified_kv_cache_update.default,
        torch.ops.vllm.unified_attention_with_output.default,
    )
    found = []
    for node in graph.find_nodes(op="call_function", target=attend):
        query, key, value, output, name, *scales = node.args
        written = node.kwargs.get("kv_cache_dummy_dep", scales.pop() if len(scales) == 3 else None)
        layer = layers.get(getattr(name, "value", name))
        is_plain = not any(scales) and not any(node.kwargs.get(f"output_{kind}scale") for kind in ("", "block_"))
        if not (is_plain and layer is not None and _has_known_kernels(layer)):
            return False
        if getattr(written, "target", None) is not update or written.args[:2] != (key, value):
            return False
        found.append((node, written, layer, (query, key, value, output)))
    if not found or has_kv_transfer_group():
        return False
    for node, written, layer, arguments in found:
        with graph.inserting_before(node):
            graph.call_function(attention_of(layer), arguments)
        graph.erase_node(node)
        graph.erase_node(written)
    return True


def _has_known_kernels(layer: Any) -> bool:
    from vllm.v1.attention.backend import AttentionType
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl

    impl = layer.impl
    return type(impl) is CPUAttentionBackendImpl and impl.attn_type == AttentionType.DECODER and impl.sinks is None


def attention_of(layer: Any) -> Attend:
    """What ``layer`` does in a step, as vLLM's ``CPUAttentionBackendImpl`` does it.

    Where there are more rows than the step has tokens, the rest of ``output`` is filled with its first row.
    """
    import torch
    from vllm.forward_context import get_forward_context

    write = torch.ops._C.cpu_attn_reshape_and_cache.default
    attend = torch.ops._C.cpu_attention_with_kv_cache.default
    impl, name = layer.impl, layer.layer_name
    cut: Any = None
    keys: Any = None
    values: Any = None

    def attend_layer(query: Any, key: Any, value: Any, output: Any) -> None:
        nonlocal cut, keys, values
        context: Any = get_forward_context()
        steps = context.attn_metadata
        if not steps:
            return  # it only warms up
        # Of a model that drafts, the first.
        step = (steps[0] if isinstance(steps, list) else steps)[name]
        if cut is not layer.kv_cache:
            cut = layer.kv_cache
            blocks, heads, size, _ = cut.size()
            keys, values = cut.view(blocks, heads, 2 * size, -1).chunk(2, dim=2)
        slots, rows = context.slot_mapping[name], step.num_actual_tokens
        is_whole = query.shape[0] == rows
        if not is_whole:
            query, key, value, all_output, output = query[:rows], key[:rows], value[:rows], output, output[:rows]
        scales = layer._k_scale_float, layer._v_scale_float, impl.kv_cache_dtype
        write(key, value, keys, values, slots, layer.isa, *scales)
        attend(
            query,
            keys,
            values,
            output,
            step.query_start_loc,
            step.seq_lens,
            impl.scale,
            step.causal,
            impl.alibi_slopes,
            impl.sliding_window,
            step.block_table,
            impl.logits_soft_cap,
            step.scheduler_metadata,
            None,
            step.dynamic_causal,
            *scales,
        )
        if not is_whole:
            all_output[rows:] = output[:1]

    return attend_layer
