"""What is said where a Ray cluster has no room for a training's workers."""

import pytest

from graph.errors import ConfigurationError
from training.cluster_room import find_wait

TWO = {"CPU": 2.0}
TWO_AND_A_GPU = {"CPU": 2.0, "GPU": 1.0}


def test_workers_for_which_all_is_free_wait_for_nothing():
    assert find_wait(2, {"CPU": 1}, TWO, TWO) is None
    assert find_wait(1, {"CPU": 2, "GPU": 1}, TWO_AND_A_GPU, TWO_AND_A_GPU) is None


def test_what_nobody_asks_for_may_be_held():
    assert find_wait(1, {"CPU": 2}, TWO_AND_A_GPU, TWO) is None


@pytest.mark.parametrize(
    ("workers", "per_worker", "total", "message"),
    [
        (3, {"CPU": 1}, TWO, r"asks for 3 CPUs \(workers: 3\), and this Ray cluster has 2 CPUs in all"),
        (1, {"CPU": 1}, {}, r"asks for 1 CPU \(workers: 1\), and this Ray cluster has 0 CPUs in all"),
        (2, {"CPU": 1, "GPU": 1}, TWO_AND_A_GPU, "asks for 2 CPUs and 2 GPUs .* has 2 CPUs and 1 GPU in all"),
        (1, {"CPU": 2, "GPU": 1}, TWO, "asks for 2 CPUs and 1 GPU .* has 2 CPUs and 0 GPUs in all"),
    ],
    ids=["CPUs", "no CPU at all", "GPUs", "no GPU at all"],
)
def test_what_the_cluster_can_never_give_is_refused_with_the_next_step(workers, per_worker, total, message):
    with pytest.raises(ConfigurationError, match=f"{message}; train with fewer workers"):
        find_wait(workers, per_worker, total, total)


def test_what_other_jobs_hold_is_waited_for_in_plain_words():
    told = find_wait(2, {"CPU": 1}, TWO, {})
    assert told == "Waiting for 2 CPUs; free now: 0. Other jobs of the cluster hold them."


def test_a_part_that_is_free_is_not_enough():
    told = find_wait(1, {"CPU": 2}, TWO, {"CPU": 1.5})
    assert told == "Waiting for 2 CPUs; free now: 1.5. Other jobs of the cluster hold them."


def test_only_what_is_held_is_named():
    told = find_wait(1, {"CPU": 2, "GPU": 1}, TWO_AND_A_GPU, TWO)
    assert told == "Waiting for 1 GPU; free now: 0. Other jobs of the cluster hold them."
    told = find_wait(1, {"CPU": 2, "GPU": 1}, TWO_AND_A_GPU, {"CPU": 1.0})
    assert told == "Waiting for 2 CPUs and 1 GPU; free now: 1 and 0. Other jobs of the cluster hold them."
