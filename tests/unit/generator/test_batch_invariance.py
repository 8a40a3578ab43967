"""A single row is multiplied as one of two; several rows are left alone."""

import numpy as np
import pytest

from deployments.generator.batch_invariance import BatchInvariantWorker, paired
from deployments.generator.vllm_engine import VllmEngine
from graph.errors import ConfigurationError

WEIGHT = np.arange(12.0).reshape(3, 4)


class Recorded:
    """A linear layer that keeps the shapes it was given. Its rows stand in for a tensor's."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, x: "Rows", weight: np.ndarray, bias: None) -> "Rows":
        self.shapes.append(x.shape)
        return (x @ weight.T).view(Rows)


class Rows(np.ndarray):
    """As much of a tensor as a linear layer's caller uses."""

    def numel(self) -> int:
        return self.size

    def repeat(self, *times: int) -> "Rows":  # type: ignore[override]  # of a tensor
        return np.concatenate([np.asarray(self)] * times[0]).view(Rows)


def rows(*shape: int) -> Rows:
    return np.arange(1.0, 1.0 + np.prod(shape)).reshape(shape).view(Rows)


@pytest.mark.parametrize("shape", [(1, 4), (4,), (1, 1, 4)])
def test_a_single_row_is_multiplied_as_one_of_two_and_keeps_its_shape(shape: tuple[int, ...]) -> None:
    linear = Recorded()
    got = paired(linear)(rows(*shape), WEIGHT)
    assert linear.shapes == [(2, 4)]
    assert got.tolist() == (rows(*shape) @ WEIGHT.T).tolist()


def test_several_rows_go_through_as_they_are() -> None:
    linear = Recorded()
    got = paired(linear)(rows(3, 4), WEIGHT)
    assert linear.shapes == [(3, 4)]
    assert got.tolist() == (rows(3, 4) @ WEIGHT.T).tolist()


def test_every_linear_layer_of_the_model_is_paired_and_no_other_module() -> None:
    class Module:
        pass

    layers = [Module(), Module(), Module()]
    for layer in layers[:2]:
        layer.cpu_linear = Recorded()  # type: ignore[attr-defined]
    worker = BatchInvariantWorker()
    worker.model_runner = type("Runner", (), {"model": type("Model", (), {"modules": lambda self: layers})()})()
    before = [layer.cpu_linear for layer in layers[:2]]  # type: ignore[attr-defined]
    assert worker.pair_single_rows() == 2
    assert all(layer.cpu_linear is not was for layer, was in zip(layers, before, strict=False))  # type: ignore[attr-defined]
    assert not hasattr(layers[2], "cpu_linear")


async def test_an_engine_whose_layers_cannot_be_paired_does_not_start_as_if_they_were() -> None:
    class Workers:
        async def collective_rpc(self, method: str) -> list[int]:
            assert method == "pair_single_rows"
            return [211, 0]

    with pytest.raises(ConfigurationError, match="batch_invariant: got true"):
        await VllmEngine("m", "m", {}, {}, batch_invariant=True)._pair_single_rows(Workers())  # type: ignore[arg-type]
