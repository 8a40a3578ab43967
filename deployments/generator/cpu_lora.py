"""LoRA on CPUs by groups of rows: each adapter's rows are multiplied together, and rows without one not at all.

vLLM 0.32 gathers a copy of the adapter's weights for every token (vllm/lora/ops/torch_ops/lora_ops.py), which costs
answers of the base model about 30% of their speed, and takes rows without an adapter, index -1, for rows of the *last*
slot: once every slot is taken, the base model answers with somebody's adapter.
"""

from collections.abc import Callable, Sequence
from typing import Any

Group = tuple[int, Any]
"""A slot, and its rows as indices; None: all rows."""
USE_GROUPED_LORA = "use_grouped_lora"
"""The method of the worker extension to call once the model is loaded."""
BLOCK_ROWS = 16
"""Rows that are multiplied at once. Always as many, filled up with zeros, so that a row's sums are made in the same
order in any company."""


class GroupedLoraWorker:
    """Methods that vLLM adds to its worker."""

    model_runner: Any
    grouped_rows: "Sequence[GroupedRows]" = ()
    """Whose adapters are in the batch."""

    def use_grouped_lora(self) -> int:
        """Puts `GroupedRows` in the place of vLLM's linear LoRA.

        Returns:
            Layers that use it now.
        """
        layers = [each for each in self.model_runner.model.modules() if hasattr(each, "punica_wrapper")]
        of_wrapper: dict[int, GroupedRows] = {}
        for layer in layers:
            wrapper = layer.punica_wrapper
            if id(wrapper) not in of_wrapper:
                of_wrapper[id(wrapper)] = GroupedRows()
                of_wrapper[id(wrapper)].take_the_place_of(wrapper)
            of_wrapper[id(wrapper)].watch(layer)
        self.grouped_rows = tuple(of_wrapper.values())
        return len(layers)


class GroupedRows:
    """Which rows of the batch belong to which slot, and the products for them."""

    def __init__(self) -> None:
        self._groups: list[Group] = []
        """Of the rows of the batch."""
        self._sampled: list[Group] = []
        """Of the rows that are sampled from."""
        self._weights: dict[tuple[int, int], Any] = {}
        """Of each matrix and slot: the weights in float32, until they change; None: all are zero, and the adapter
        leaves that layer as it is. vLLM wraps every layer, and most adapters change two of seven."""

    @property
    def has_adapters(self) -> bool:
        """Some row of the batch has one."""
        return bool(self._groups)

    def take_the_place_of(self, wrapper: Any) -> None:
        """Makes a ``PunicaWrapperCPU`` compute by groups."""
        update: Callable[..., None] = wrapper.update_metadata
        add_lora_embedding: Callable[..., Any] = wrapper.add_lora_embedding

        def update_metadata(*args: Any, **kwargs: Any) -> None:
            update(*args, **kwargs)
            self.group(wrapper.token_lora_indices, wrapper.sampler_indices)

        wrapper.update_metadata = update_metadata

        def add_embedding(y: Any, *args: Any, **kwargs: Any) -> Any:
            return add_lora_embedding(y, *args, **kwargs) if self.has_adapters else y

        wrapper.add_lora_embedding = add_embedding
        wrapper.add_lora_linear = self.add_lora_linear
        wrapper.add_lora_logits = self.add_lora_logits

    def watch(self, layer: Any) -> None:
        """Forgets what is known of the weights whenever vLLM sets or resets those of this layer."""
        for name in ("set_lora", "reset_lora"):
            change: Callable[..., None] = getattr(layer, name)

            def changed(*args: Any, _change: Callable[..., None] = change, **kwargs: Any) -> None:
                self._weights.clear()
                _change(*args, **kwargs)

            setattr(layer, name, changed)

    def group(self, slots: Any, sampled_slots: Any) -> None:
        """Notes who is in the next batch.

        Args:
            slots: Of each row of the batch, (rows,); -1: no adapter.
            sampled_slots: Of each row that is sampled from.
        """
        self._groups, self._sampled = groups_of(slots), groups_of(sampled_slots)

    def add_lora_linear(
        self,
        y: Any,
        x: Any,
        lora_a_stacked: Sequence[Any],
        lora_b_stacked: Sequence[Any],
        scale: float,
        output_slices: Sequence[int],
        **_: Any,
    ) -> None:
        """Adds ``x A^T B^T scale`` to the slices of ``y``, row by row with the row's own adapter.

        Args:
            y: (rows, sum of output_slices), changed in place.
            x: (rows, K).
            lora_a_stacked, lora_b_stacked: A slice each, (slots, 1, rank, K) and (slots, 1, output, rank).
        """
        for slot, rows in self._groups:
            taken, start = None, 0
            for a, b, size in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
                down, up = self._weights_of(a, slot), self._weights_of(b, slot)
                if down is not None and up is not None:
                    if taken is None:
                        taken = (x if rows is None else x[rows]).float()
                    _add(y[:, start : start + size], rows, blockwise(blockwise(taken, down), up) * scale)
                start += size

    def add_lora_logits(self, y: Any, x: Any, lora_a_stacked: Any, lora_b_stacked: Any, scale: float, **_: Any) -> None:
        """Adds the same for the logits: ``y`` (rows, vocabulary), ``x`` (rows, K), one slice that is no sequence."""
        y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        for slot, rows in self._sampled:
            down, up = self._weights_of(lora_a_stacked, slot), self._weights_of(lora_b_stacked, slot)
            if down is not None and up is not None:
                taken = (x if rows is None else x[rows]).float()
                _add(y[:, : up.shape[0]], rows, blockwise(blockwise(taken, down), up) * scale)

    def _weights_of(self, stacked: Any, slot: int) -> Any:
        key = (stacked.data_ptr(), slot)
        if key not in self._weights:
            weights = stacked[slot, 0]
            self._weights[key] = weights.float() if bool(weights.any()) else None
        return self._weights[key]


def _add(y: Any, rows: Any, added: Any) -> None:
    """In place, to a slice of the batch's rows."""
    if rows is None:
        y += added.to(y.dtype)
    else:
        y[rows] += added.to(y.dtype)


def groups_of(slots: Any) -> list[Group]:
    """The slots that are there, but -1, each with its rows."""
    import torch

    present = torch.unique(slots).tolist()
    return [
        (slot, None if len(present) == 1 else (slots == slot).nonzero(as_tuple=True)[0])
        for slot in present
        if slot >= 0
    ]


def blockwise(x: Any, weight: Any) -> Any:
    """``x`` (rows, K) times the transpose of ``weight`` (N, K), in blocks of `BLOCK_ROWS`."""
    import torch

    rows, k = x.shape
    missing = -rows % BLOCK_ROWS
    if missing:
        x = torch.cat([x, x.new_zeros(missing, k)])
    blocks = x.view(-1, BLOCK_ROWS, k)
    product = torch.bmm(blocks, weight.t().expand(blocks.shape[0], -1, -1))
    return product.reshape(-1, weight.shape[0])[:rows]
