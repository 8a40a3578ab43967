"""How busy the real engine says it is: from what vLLM counts itself and what its scheduler told of its last step."""

from types import SimpleNamespace
from typing import Any

import pytest

from deployments.generator.vllm_engine import VllmEngine, _SchedulerStats
from graph.contracts import EngineLoad
from graph.errors import Unavailable


def make_engine(unfinished: int = 6, errored: bool = False, **cores: Any) -> VllmEngine:
    """An engine whose cores said ``(waiting, deferred, kv)`` by their names ``core_0``, ``core_1``."""
    engine = VllmEngine("nowhere", "m", {}, {})
    engine._llm = SimpleNamespace(  # type: ignore[assignment]
        get_num_unfinished_requests=lambda: unfinished, get_num_queued_tokens=lambda: 70, errored=errored
    )
    for name, (waiting, deferred, kv) in cores.items():
        logger = _SchedulerStats(engine._scheduled, int(name.removeprefix("core_")))
        said = SimpleNamespace(num_waiting_reqs=waiting, num_skipped_waiting_reqs=deferred, kv_cache_usage=kv)
        logger.record(said, None, mm_cache_stats=None, engine_idx=0)  # type: ignore[arg-type]
        logger.record(None, None)
    return engine


def test_what_waits_is_the_schedulers_and_the_rest_runs() -> None:
    assert make_engine(core_0=(1, 1, 0.5)).load() == EngineLoad(4, 70, 2, 0.5)


def test_data_parallel_cores_add_up_and_the_fullest_cache_counts() -> None:
    assert make_engine(core_0=(1, 0, 0.25), core_1=(2, 0, 0.75)).load() == EngineLoad(3, 70, 3, 0.75)


def test_before_the_first_step_all_that_came_counts_as_running() -> None:
    assert make_engine().load() == EngineLoad(6, 70, 0, 0.0)


def test_more_waiting_than_there_are_is_an_old_step() -> None:
    assert make_engine(unfinished=2, core_0=(5, 0, 0.5)).load() == EngineLoad(0, 70, 2, 0.5)


def test_an_idle_engine_holds_nothing_whatever_its_last_step_had() -> None:
    assert make_engine(unfinished=0, core_0=(0, 0, 0.5)).load() == EngineLoad(0, 0)


def test_a_dead_engine_holds_nothing_and_one_that_is_shut_down_says_so() -> None:
    assert make_engine(errored=True, core_0=(3, 0, 0.9)).load() == EngineLoad(0, 0)
    with pytest.raises(Unavailable):
        VllmEngine("nowhere", "m", {}, {}).load()
