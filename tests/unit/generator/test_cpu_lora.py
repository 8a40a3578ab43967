"""LoRA by groups of rows: each row gets its own adapter's product, whoever shares the batch."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.generator.cpu_lora import BLOCK_ROWS, GroupedLoraWorker, GroupedRows, groups_of
from deployments.generator.vllm_engine import VllmEngine
from graph.errors import ConfigurationError

torch = pytest.importorskip("torch")

SLOTS, RANK, K, VOCABULARY = 4, 8, 48, 96
SLICES = (64, 16, 16)
"""As a fused layer of queries, keys and values has them."""
SCALE = 0.75
SLOT = st.integers(-1, SLOTS - 1)


def random(*shape: int, seed: int, dtype: Any = None) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(dtype or torch.float32)


A = [random(SLOTS, 1, RANK, K, seed=10 + at) for at, _ in enumerate(SLICES)]
B = [random(SLOTS, 1, size, RANK, seed=20 + at) for at, size in enumerate(SLICES)]
LOGITS_A = random(SLOTS, 1, RANK, K, seed=30)
LOGITS_B = random(SLOTS, 1, VOCABULARY, RANK, seed=31)


def batch(slots: Sequence[int], dtype: Any = None) -> tuple[Any, Any]:
    """Each row's input and the base layer's output; they depend on the row's place only."""
    x = random(len(slots), K, seed=1, dtype=dtype)
    return x, random(len(slots), sum(SLICES), seed=2, dtype=dtype)


def grouped(slots: Sequence[int], x: Any, y: Any) -> Any:
    rows = GroupedRows()
    rows.group(torch.tensor(slots), torch.tensor(slots))
    y = y.clone()
    rows.add_lora_linear(y, x, [a.to(x.dtype) for a in A], [b.to(x.dtype) for b in B], SCALE, SLICES)
    return y


def row_by_row(slots: Sequence[int], x: Any, y: Any) -> Any:
    """The same by the definition of LoRA, in double precision."""
    y = y.double()
    for row, slot in enumerate(slots):
        if slot >= 0:
            start = 0
            for a, b, size in zip(A, B, SLICES, strict=True):
                added = (x[row].double() @ a[slot, 0].double().T) @ b[slot, 0].double().T
                y[row, start : start + size] += added * SCALE
                start += size
    return y


@given(st.lists(SLOT, min_size=1, max_size=70))
def test_each_row_gets_its_own_adapters_product(slots: list[int]) -> None:
    x, y = batch(slots)
    torch.testing.assert_close(grouped(slots, x, y).double(), row_by_row(slots, x, y), rtol=1e-4, atol=1e-3)


@given(st.lists(SLOT, min_size=1, max_size=40))
def test_rows_without_an_adapter_keep_every_bit(slots: list[int]) -> None:
    x, y = batch(slots, torch.bfloat16)
    got = grouped(slots, x, y)
    without = [row for row, slot in enumerate(slots) if slot < 0]
    assert torch.equal(got[without], y[without])


def test_no_row_is_taken_for_one_of_the_last_slot() -> None:
    # What vLLM's own does with -1 once every slot is taken.
    slots = [-1, SLOTS - 1, -1, 0]
    x, y = batch(slots)
    got = grouped(slots, x, y)
    assert torch.equal(got[[0, 2]], y[[0, 2]])
    assert not torch.equal(got[1], y[1])
    assert torch.equal(grouped([-1] * 4, x, y), y)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@given(data=st.data(), company=st.lists(SLOT, max_size=3 * BLOCK_ROWS), slot=st.integers(0, SLOTS - 1))
def test_a_rows_result_is_the_same_alone_and_in_any_company(
    dtype: str, data: Any, company: list[int], slot: int
) -> None:
    place = data.draw(st.integers(0, len(company)))
    slots = [*company[:place], slot, *company[place:]]
    x, y = batch(slots, getattr(torch, dtype))
    alone = grouped([slot], x[place : place + 1], y[place : place + 1])
    assert torch.equal(grouped(slots, x, y)[place], alone[0])


@pytest.mark.parametrize("rows", [1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 3 * BLOCK_ROWS])
def test_one_adapters_batch_of_any_size_is_as_row_by_row(rows: int) -> None:
    slots = [2] * rows
    x, y = batch(slots)
    torch.testing.assert_close(grouped(slots, x, y).double(), row_by_row(slots, x, y), rtol=1e-4, atol=1e-3)


def logits(slots: Sequence[int], x: Any, y: Any, b: Any = LOGITS_B) -> Any:
    rows = GroupedRows()
    rows.group(torch.tensor([0]), torch.tensor(slots))
    y = y.clone()
    rows.add_lora_logits(y, x, LOGITS_A, b, SCALE)
    return y


@given(st.lists(SLOT, min_size=1, max_size=40))
def test_logits_get_the_product_of_the_row_that_is_sampled_from(slots: list[int]) -> None:
    x, y = random(len(slots), K, seed=3), random(len(slots), VOCABULARY + 8, seed=4)
    got = logits(slots, x, y)
    expected = y.double()
    for row, slot in enumerate(slots):
        if slot >= 0:
            added = (x[row].double() @ LOGITS_A[slot, 0].double().T) @ LOGITS_B[slot, 0].double().T
            expected[row, :VOCABULARY] += added * SCALE
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-3)
    assert torch.equal(got[:, VOCABULARY:], y[:, VOCABULARY:]), "what pads the vocabulary is left alone"
    without = [row for row, slot in enumerate(slots) if slot < 0]
    assert torch.equal(got[without], y[without])


@given(st.lists(SLOT, min_size=1, max_size=40), st.data())
def test_a_rows_logits_are_the_same_alone_and_in_any_company(slots: list[int], data: Any) -> None:
    place = data.draw(st.integers(0, len(slots) - 1))
    x, y = random(len(slots), K, seed=3), random(len(slots), VOCABULARY, seed=4)
    alone = logits(slots[place : place + 1], x[place : place + 1], y[place : place + 1])
    assert torch.equal(logits(slots, x, y)[place], alone[0])


def test_an_adapter_that_leaves_the_vocabulary_alone_changes_no_logit() -> None:
    x, y = random(3, K, seed=3), random(3, VOCABULARY, seed=4)
    assert torch.equal(logits([0, 1, 2], x, y, torch.zeros_like(LOGITS_B)), y)


@given(st.lists(SLOT, max_size=40))
def test_groups_are_the_slots_that_are_there_with_all_of_their_rows(slots: list[int]) -> None:
    groups = groups_of(torch.tensor(slots, dtype=torch.long))
    assert [slot for slot, _ in groups] == sorted({slot for slot in slots if slot >= 0})
    for slot, rows in groups:
        of_slot = [row for row, each in enumerate(slots) if each == slot]
        assert (of_slot if rows is None else rows.tolist()) == of_slot
        assert (rows is None) == (len(of_slot) == len(slots))


class Wrapper:
    """As much of vLLM's ``PunicaWrapperCPU`` as is replaced."""

    def __init__(self) -> None:
        self.token_lora_indices = torch.tensor([0])
        self.sampler_indices = torch.tensor([0])

    def update_metadata(self, mapping: list[int], *, sampled: list[int]) -> None:
        self.token_lora_indices, self.sampler_indices = torch.tensor(mapping), torch.tensor(sampled)

    def add_lora_embedding(self, y: Any, x: Any, lora_b_stacked: Any, add_inputs: bool = True) -> None:
        y += 1

    add_lora_linear: Any = None
    add_lora_logits: Any = None


class Layer:
    """As much of vLLM's layers with LoRA as is watched."""

    def __init__(self, wrapper: Wrapper) -> None:
        self.punica_wrapper = wrapper
        self.b = torch.zeros_like(B[0])

    def set_lora(self, index: int, lora_b: Any) -> None:
        self.b[index, 0] = lora_b

    def reset_lora(self, index: int) -> None:
        self.b[index, 0] = 0


def worker_of(*layers: Any) -> GroupedLoraWorker:
    worker = GroupedLoraWorker()
    worker.model_runner = type("Runner", (), {"model": type("Model", (), {"modules": lambda self: layers})()})()
    return worker


def test_every_layer_of_the_model_computes_by_the_groups_of_the_batch() -> None:
    wrapper = Wrapper()
    layers = [Layer(wrapper) for _ in range(2)]
    assert worker_of(layers[0], object(), layers[1]).use_grouped_lora() == 2
    slots, sampled = [1, -1, 3], [3]
    wrapper.update_metadata(slots, sampled=sampled)
    x, y = batch(slots)
    got = y.clone()
    # As vLLM calls it, with a buffer of its own.
    wrapper.add_lora_linear(got, x, A, B, SCALE, SLICES, buffer=None, add_inputs=True)
    assert torch.equal(got, grouped(slots, x, y))
    logit = random(1, VOCABULARY, seed=4)
    got_logit = logit.clone()
    wrapper.add_lora_logits(got_logit, x[:1], LOGITS_A, LOGITS_B, SCALE, buffer=None)
    assert torch.equal(got_logit, logits(sampled, x[:1], logit))


def test_the_embedding_is_left_alone_by_a_batch_without_adapters() -> None:
    wrapper = Wrapper()
    worker = worker_of(Layer(wrapper))
    worker.use_grouped_lora()
    added = []
    for slots in ([-1, -1], [-1, 2], [-1]):
        wrapper.update_metadata(slots, sampled=slots)
        y = torch.zeros(2, 3)
        wrapper.add_lora_embedding(y, None, None, add_inputs=True)
        added.append(bool(y.any()))
        assert [rows.has_adapters for rows in worker.grouped_rows] == [added[-1]]
    assert added == [False, True, False]


def test_a_slots_weights_are_looked_at_again_once_they_are_set_or_reset() -> None:
    wrapper = Wrapper()
    layer = Layer(wrapper)
    worker_of(layer).use_grouped_lora()
    x, y = batch([1])
    wrapper.update_metadata([1], sampled=[1])

    def added() -> bool:
        got = y.clone()
        wrapper.add_lora_linear(got, x, A[:1], [layer.b], SCALE, SLICES[:1])
        return not torch.equal(got, y)

    assert not added(), "the slot is empty"
    layer.set_lora(1, B[0][1, 0])
    assert added()
    layer.reset_lora(1)
    assert not added()
    layer.set_lora(index=1, lora_b=B[0][2, 0])
    assert added()


def test_an_adapter_that_takes_anothers_slot_is_multiplied_with_its_own_weights() -> None:
    wrapper = Wrapper()
    layer = Layer(wrapper)
    layer.b = layer.b.to(torch.bfloat16)  # so that what is kept in float32 is a copy
    worker_of(layer).use_grouped_lora()
    x, y = batch([1], torch.bfloat16)
    wrapper.update_metadata([1], sampled=[1])
    products = []
    for taken_from in (0, 2, 0):
        layer.set_lora(1, B[0][taken_from, 0])
        products.append(y.clone())
        wrapper.add_lora_linear(products[-1], x, A[:1], [layer.b], SCALE, SLICES[:1])
    assert torch.equal(products[0], products[2])
    assert not torch.equal(products[0], products[1])


def test_layers_that_an_adapter_leaves_as_they_are_add_nothing() -> None:
    x, y = batch([0, 1])
    rows = GroupedRows()
    rows.group(torch.tensor([0, 1]), torch.tensor([0]))
    got = y.clone()
    rows.add_lora_linear(got, x, A, [B[0], torch.zeros_like(B[1]), B[2]], SCALE, SLICES)
    second = slice(SLICES[0], SLICES[0] + SLICES[1])
    assert torch.equal(got[:, second], y[:, second])
    assert not torch.equal(got[:, : SLICES[0]], y[:, : SLICES[0]])


def test_a_model_without_such_layers_is_told() -> None:
    assert worker_of(object()).use_grouped_lora() == 0


async def test_an_engine_whose_layers_take_no_adapter_does_not_start_as_if_they_did() -> None:
    class Workers:
        async def collective_rpc(self, method: str) -> list[int]:
            assert method == "use_grouped_lora"
            return [0]

    with pytest.raises(ConfigurationError, match="enable_lora: got true"):
        await VllmEngine("m", "m", {"enable_lora": True}, {})._group_lora(Workers())  # type: ignore[arg-type]
