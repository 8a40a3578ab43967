"""What an engine on CPUs is given where the configuration is silent."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from deployments.generator.machine_fit import (
    GIB,
    IN_PROCESS,
    KV_SPACE,
    THREADS,
    Machine,
    fit_to_cpus,
    kv_bytes_per_token,
    openmp_environment,
    this_machine,
)
from graph.errors import ConfigurationError

ONE_PROCESS = {"distributed_executor_backend": "uni"}
SMOLLM = 2 * 2 * 30 * 3 * 64
SMALL = Machine((0, 1), 24 * GIB)


def test_two_cores_answer_32_requests_with_room_for_all_of_them_at_full_length() -> None:
    args, environment = fit_to_cpus(SMALL, SMOLLM, {"max_model_len": 2048}, {})
    assert args == {"max_model_len": 2048, "max_num_seqs": 32, **ONE_PROCESS}
    assert environment == {THREADS: "nobind", KV_SPACE: "2", IN_PROCESS: "0"}  # 32 x 2048 x 23 kB are 1.4 GiB


@pytest.mark.parametrize(("cores", "sequences"), [(1, 16), (8, 128), (16, 256), (64, 256)])
def test_more_cores_answer_more_at_once_up_to_a_bound(cores: int, sequences: int) -> None:
    args, _ = fit_to_cpus(Machine(range(cores), 64 * GIB), SMOLLM, {}, {})
    assert args["max_num_seqs"] == sequences


def test_keys_and_values_take_a_quarter_of_the_memory_at_most_and_a_gibibyte_at_least() -> None:
    _, environment = fit_to_cpus(SMALL, 500_000, {"max_model_len": 8192}, {})
    assert environment[KV_SPACE] == "6"
    _, environment = fit_to_cpus(Machine((0,), 2 * GIB), 500_000, {"max_model_len": 8192}, {})
    assert environment[KV_SPACE] == "1"


def test_what_the_configuration_says_stays() -> None:
    args = {"max_num_seqs": 5, "max_model_len": 64, "distributed_executor_backend": "mp"}
    environment = {THREADS: "auto", KV_SPACE: "3", "VLLM_LOGGING_LEVEL": "INFO"}
    assert fit_to_cpus(SMALL, SMOLLM, args, environment) == (args, environment)


def test_one_process_that_was_asked_for_is_one_process() -> None:
    _, environment = fit_to_cpus(SMALL, SMOLLM, ONE_PROCESS, {})
    assert environment[IN_PROCESS] == "0"


@pytest.mark.parametrize(
    "parallel", [{"tensor_parallel_size": 2}, {"pipeline_parallel_size": 2}, {"data_parallel_size": 2}]
)
def test_several_workers_have_processes_of_their_own(parallel: dict[str, int]) -> None:
    args, environment = fit_to_cpus(SMALL, SMOLLM, parallel, {})
    assert "distributed_executor_backend" not in args
    assert IN_PROCESS not in environment
    assert environment[THREADS] == "0,1"


@pytest.mark.parametrize(
    ("bind", "cores", "threads", "places"),
    [
        ("0,1", (0, 1), "2", "{0,1}"),
        ("0-2,5", range(8), "4", "{0,1,2,5}"),
        ("auto", (0, 1), "1", "{0}"),
        ("auto", (3,), "1", "{3}"),
        ("auto", range(4), "3", "{0,1,2}"),
    ],
)
def test_an_engine_s_threads_are_bound_as_the_setting_says(
    bind: str, cores: Sequence[int], threads: str, places: str
) -> None:
    assert openmp_environment(bind, Machine(cores, GIB)) == {
        "OMP_NUM_THREADS": threads,
        "OMP_PLACES": places,
        "OMP_PROC_BIND": "true",
    }


def test_nobind_has_a_thread_a_core_and_leaves_it_to_the_system_which() -> None:
    assert openmp_environment("nobind", SMALL) == {"OMP_NUM_THREADS": "2"}


@pytest.mark.parametrize("bind", ["", "0-", "one", "0,2", "1-0", "0;1", "-1"])
def test_cores_that_are_not_there_are_refused_with_those_that_are(bind: str) -> None:
    with pytest.raises(ConfigurationError, match="0, 1"):
        openmp_environment(bind, SMALL)


def test_all_means_every_core_that_this_process_may_use() -> None:
    _, environment = fit_to_cpus(Machine((2, 5), GIB), None, {}, {THREADS: "all"})
    assert environment[THREADS] == "2,5"


@pytest.mark.parametrize(("token_bytes", "args"), [(None, {"max_model_len": 2048}), (SMOLLM, {})])
def test_without_the_size_of_an_answer_vllm_chooses_the_memory(token_bytes: int | None, args: dict[str, int]) -> None:
    _, environment = fit_to_cpus(SMALL, token_bytes, args, {})
    assert KV_SPACE not in environment


def test_a_token_s_size_is_read_from_the_model_s_own_description(tmp_path: Path) -> None:
    assert kv_bytes_per_token(tmp_path) is None
    config = {"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 576}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert kv_bytes_per_token(tmp_path) == SMOLLM
    (tmp_path / "config.json").write_text(json.dumps({**config, "head_dim": 128}))
    assert kv_bytes_per_token(tmp_path) == 2 * SMOLLM
    (tmp_path / "config.json").write_text("[]")
    assert kv_bytes_per_token(tmp_path) is None


def test_this_machine_has_a_core_and_memory() -> None:
    machine = this_machine()
    assert len(machine.cores) >= 1
    assert machine.memory_bytes > GIB
