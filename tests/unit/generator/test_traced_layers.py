"""Layers as a list of operators: the same answers bit for bit, and the layers themselves for all that it cannot hold."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.generator import traced_layers
from deployments.generator.traced_layers import Trace, TracedLayers, TracedLayersWorker, doubled, trace

torch = pytest.importorskip("torch")

HIDDEN, VOCABULARY = 16, 50
EMBEDDING = torch.randn(VOCABULARY, HIDDEN, generator=torch.Generator().manual_seed(1)).bfloat16()
WEIGHT = torch.randn(HIDDEN, HIDDEN, generator=torch.Generator().manual_seed(2)).bfloat16()


def layers(input_ids: Any, positions: Any, intermediate_tensors: Any = None, inputs_embeds: Any = None) -> Any:
    """With what vLLM's layers do: views to heads and back, a buffer that is written to, a single row of its own."""
    x = torch.nn.functional.embedding(input_ids, EMBEDDING) if inputs_embeds is None else inputs_embeds
    out = torch.empty((x.shape[0], HIDDEN), dtype=x.dtype)
    torch.mm(x.view(-1, HIDDEN), WEIGHT, out=out)
    if x.numel() == HIDDEN:
        out = torch.mm(x.repeat(2, 1), WEIGHT)[:1]
    heads = out.view(-1, 4, 4) * positions.view(-1, 1, 1)
    return torch.nn.functional.silu(heads.view(-1, HIDDEN)).detach()


def inputs(rows: int) -> tuple[Any, Any]:
    ids = torch.arange(rows, dtype=torch.int32) * 7 % VOCABULARY
    return ids, torch.arange(rows, dtype=torch.int64) + 3


@pytest.mark.parametrize("rows", [2, 3, 5, 16, 257])
def test_one_trace_holds_for_any_number_of_rows_bit_for_bit(rows: int) -> None:
    traced = trace(layers, 5, {})
    assert traced.most_rows == float("inf")
    assert torch.equal(traced.forward(*inputs(rows)), layers(*inputs(rows)))


def test_a_single_row_has_a_trace_of_its_own() -> None:
    ids, positions = inputs(4)
    one, many = trace(layers, 1, {}), trace(layers, 5, {})
    assert torch.equal(one.forward(ids[2:3], positions[2:3]), layers(ids[2:3], positions[2:3]))
    sources = [each.forward.func.__code__.co_names for each in (one, many)]  # type: ignore[attr-defined]
    assert ["repeat" in names for names in sources] == [True, False]


def test_the_trace_for_several_rows_is_good_for_one_that_is_there_twice() -> None:
    ids, positions = inputs(4)
    one = doubled(trace(layers, 5, {}))
    assert torch.equal(one.forward(ids[2:3], positions[2:3]), layers(ids[2:3], positions[2:3]))


def test_a_trace_ends_where_a_buffer_of_the_layers_does() -> None:
    offsets = torch.zeros(40, dtype=torch.int64)

    def with_buffer(input_ids: Any, positions: Any, *_: Any) -> Any:
        return layers(input_ids + offsets[: input_ids.shape[0]], positions)

    traced = trace(with_buffer, 5, {})
    assert traced.most_rows == 40
    assert torch.equal(traced.forward(*inputs(40)), layers(*inputs(40)))
    offsets += 1
    ids, positions = inputs(7)
    assert torch.equal(traced.forward(ids, positions), layers(ids + 1, positions)), "what the buffer holds by now"


def test_layers_that_ask_for_the_number_of_rows_are_not_traced() -> None:
    def choosy(input_ids: Any, positions: Any, *_: Any) -> Any:
        return layers(input_ids, positions) * (2 if input_ids.shape[0] > 3 else 1)

    with pytest.raises(ValueError, match="ask for the number of rows"):
        trace(choosy, 5, {})


class Rows:
    """Of the batch: as much of ``GroupedRows`` as is asked."""

    has_adapters = False


@pytest.fixture
def called() -> list[str]:
    return []


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def chosen(called: list[str], rows: Rows) -> TracedLayers:
    def note(name: str) -> Callable[..., Any]:
        return lambda *_, **__: called.append(name)

    return TracedLayers(note("layers"), Trace(note("one"), 1), Trace(note("many"), 40), [Rows(), rows])


def test_the_trace_is_chosen_by_the_number_of_rows(chosen: TracedLayers, called: list[str]) -> None:
    for number in (1, 2, 40, 41):
        chosen(*inputs(number), None, None)
    assert called == ["one", "many", "many", "layers"]


def test_a_batch_with_an_adapter_goes_through_the_layers(chosen: TracedLayers, called: list[str], rows: Rows) -> None:
    chosen(*inputs(1))
    rows.has_adapters = True
    chosen(*inputs(1))
    chosen(*inputs(3))
    rows.has_adapters = False
    chosen(*inputs(3))
    assert called == ["one", "layers", "layers", "many"]


def test_what_no_trace_was_made_for_goes_through_the_layers(chosen: TracedLayers, called: list[str]) -> None:
    ids, positions = inputs(3)
    chosen(None, positions, None, torch.ones(3, HIDDEN))
    chosen(ids, positions, object())
    chosen(ids, positions.repeat(3, 1))
    chosen(ids, positions, deepstack=object())
    assert called == ["layers"] * 4


class Part:
    """Of a model: what vLLM would compile has ``do_not_compile``."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.do_not_compile = True
        self.forward = forward


def worker_of(*parts: Any) -> TracedLayersWorker:
    worker = TracedLayersWorker()
    worker.vllm_config = SimpleNamespace(compilation_config=SimpleNamespace(static_forward_context={}))
    worker.model_runner = type("Runner", (), {"model": type("Model", (), {"modules": lambda self: parts})()})()
    return worker


@pytest.fixture(autouse=True)
def no_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced_layers, "use_norm_kernels", lambda model: 0)


def test_the_part_that_would_be_compiled_is_traced() -> None:
    part = Part(layers)
    assert worker_of(object(), part).trace_layers() == 2
    assert isinstance(part.forward, TracedLayers)
    for number in (1, 6):
        assert torch.equal(part.forward(*inputs(number)), layers(*inputs(number)))


def test_a_model_that_cannot_be_traced_stays_as_it_is() -> None:
    def odd(input_ids: Any, positions: Any, *_: Any) -> Any:
        return layers(input_ids, positions) if bool((input_ids > 3).any()) else positions

    part = Part(odd)
    assert worker_of(part).trace_layers() == 0
    assert part.forward is odd
    encoder, decoder = Part(layers), Part(layers)
    assert worker_of(encoder, decoder).trace_layers() == 0
    assert (encoder.forward, decoder.forward) == (layers, layers)
