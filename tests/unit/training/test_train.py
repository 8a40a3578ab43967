"""What training refuses before it begins, and what it names its runs by. No torch in here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks.durability.recording import QuickFiles
from deployments.controls.catalogue import load_catalogue
from deployments.feedback.lineage import adapters_trained_on, record_lineage
from deployments.rollout.adapter_files import WEIGHTS, describe_base
from deployments.rollout.adapter_store import BASE
from deployments.rollout.registry import Registry
from graph.errors import ConfigurationError, InvalidRequest
from graph.settings import PROJECT_ROOT
from tests.unit.rollout.adapter_support import make_base, make_safetensors, make_tensors
from training import train as training
from training.commands.train import find_dataset, find_parent
from training.curation import METHODS, SPLITS
from training.dataset_store import file_name, locked, write_dataset
from training.parameters import Parent, TrainingParameters, check_lora, choose_method
from training.selection import ROW_SCHEMAS
from training.train import TrainedAdapter, register_adapter, train

CATALOGUE = load_catalogue(PROJECT_ROOT / "configs/controls.yaml")


def make_dataset(root, settings='{"depth": 50}', labels=(True, False), **usable):
    row = {
        "prompt": [{"role": "user", "content": "Why?"}],
        "completion": [{"role": "assistant", "content": "So."}],
        "chosen": [{"role": "assistant", "content": "So."}],
        "rejected": [{"role": "assistant", "content": "No."}],
        "source": "thumb",
        "weight": 1.0,
        "tenant": "acme",
        "settings": settings,
    }
    rows = [
        {**row, "event_id": f"e{n}", "event_ids": [f"e{n}", f"g{n}"], "label": label} for n, label in enumerate(labels)
    ]
    tables = {file_name(m, s): pa.Table.from_pylist(rows, schema=ROW_SCHEMAS[m]) for m in METHODS for s in SPLITS}
    methods = {
        method: {
            "usable": usable.get(method, True),
            "reason": None if usable.get(method, True) else f"{method}: too few.",
        }
        for method in METHODS
    }
    with locked(root, QuickFiles()):
        return write_dataset(root, tables, {"format": 1, "methods": methods}, ["e0"], QuickFiles())


@pytest.fixture
def base_folder(tmp_path):
    make_base(tmp_path)
    return tmp_path / "tiny"


@pytest.fixture
def start(tmp_path, base_folder):
    """Trains on the dataset as given; the torch side must not be reached."""

    def begin(dataset, folder=base_folder, parent=None, max_lora_rank=16, **parameters):
        return train(
            dataset,
            folder,
            TrainingParameters(**parameters),
            tmp_path / "runs",
            catalogue=CATALOGUE,
            parent=parent,
            max_lora_rank=max_lora_rank,
        )

    return begin


def test_auto_takes_corrections_before_pairs_before_thumbs():
    methods = {method: {"usable": True, "reason": None} for method in METHODS}
    assert choose_method({"methods": methods}, "auto")[0] == "sft"
    methods["sft"] = {"usable": False, "reason": "sft: there are no corrections."}
    method, why = choose_method({"methods": methods}, "auto")
    assert method == "dpo"
    assert "sft: there are no corrections" in why
    methods["dpo"] = methods["sft"]
    assert choose_method({"methods": methods}, "auto")[0] == "kto"


def test_a_method_that_cannot_be_used_is_refused_with_the_datasets_reason(tmp_path, start):
    dataset = make_dataset(tmp_path / "datasets", dpo=False)
    with pytest.raises(InvalidRequest, match=r"cannot be used for dpo\. dpo: too few"):
        start(dataset, method="dpo")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rank": 12}, "r is 12; it must be one of 1, 8, 16"),
        ({"rank": 32}, "max_lora_rank is 16"),
        ({"alpha": 0}, "lora_alpha is 0"),
        ({"lora": {"use_dora": True}}, "use_dora is True; it must be off"),
        ({"lora": {"lora_bias": True}}, "lora_bias is True"),
        ({"lora": {"bias": "all"}}, "bias is 'all'"),
        ({"lora": {"modules_to_save": ["lm_head"]}}, "modules_to_save"),
        ({"lora": {"init_lora_weights": "pissa"}}, "init_lora_weights is 'pissa'"),
        (
            {"target_modules": ("w_proj",)},
            "'w_proj' is no linear layer of 'tiny' that can be trained; it has: q_proj, v_proj",
        ),
        ({"target_modules": ()}, "target_modules"),
    ],
    ids=str,
)
def test_an_adapter_that_would_not_be_served_is_refused_before_training(tmp_path, start, parameters, message):
    with pytest.raises(InvalidRequest) as refused:
        start(make_dataset(tmp_path / "datasets"), **parameters)
    assert message in refused.value.message
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "parameters",
    [
        {"steps": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"beta": -1},
        {"warmup_share": 2},
        {"method": "ppo"},
        {"precision": "int4"},
        {"seed": -1},
        {"max_length": 1},
    ],
    ids=str,
)
def test_parameters_out_of_range_are_refused_by_name(parameters):
    with pytest.raises(InvalidRequest) as refused:
        TrainingParameters(**parameters)
    assert refused.value.param == next(iter(parameters))


def test_a_missing_base_model_is_named(tmp_path, start):
    with pytest.raises(ConfigurationError, match="holds no model"):
        start(make_dataset(tmp_path / "datasets"), folder=tmp_path / "nowhere")


def test_a_dataset_of_which_no_prompt_is_known_any_more_is_refused_with_the_count(tmp_path, start):
    dataset = make_dataset(tmp_path / "datasets", settings='{"warmth": 3}')
    with pytest.raises(
        InvalidRequest, match="none of the 2 rows can be trained on: 2 because the catalogue"
    ) as refused:
        start(dataset)
    assert refused.value.code == "no_feedback"


def test_storage_without_workers_is_refused(tmp_path, base_folder):
    with pytest.raises(InvalidRequest, match="workers 0"):
        train(
            make_dataset(tmp_path / "datasets"),
            base_folder,
            TrainingParameters(),
            tmp_path / "runs",
            catalogue=CATALOGUE,
            storage="s3://bucket/runs",
        )


def make_adapter(folder, base):
    config = check_lora(TrainingParameters(), base, 16, folder.parent / "tiny", None)
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_bytes(config.encode())
    (folder / WEIGHTS).write_bytes(make_safetensors(make_tensors()))
    return folder


def make_trained(tmp_path, dataset, parent=BASE):
    base = describe_base(tmp_path / "tiny")
    folder = make_adapter(tmp_path / "runs" / "one" / "adapter", base)
    return TrainedAdapter(
        folder, "one", dataset.name, "sft", "asked for", parent, base, 7, {"loss": 1.5}, {"method": "sft"}
    )


def test_an_adapter_is_registered_with_its_origin_and_the_rows_it_was_trained_on(tmp_path, base_folder):
    dataset = make_dataset(tmp_path / "datasets")
    registry, log = Registry(tmp_path / "registry"), tmp_path / "log"
    trained = make_trained(tmp_path, dataset)
    for _ in range(2):
        name = register_adapter(trained, dataset, registry, tmp_path / "runs", log, now_us=5)
    card = registry.card(name)
    assert (card.dataset, card.seed, card.parent, card.metrics) == (dataset.name, 7, BASE, {"loss": 1.5})
    assert adapters_trained_on(log, ["g1"]) == (name,)
    assert registry.verify(name)


def test_an_adapter_that_went_on_from_another_answers_for_its_rows_too(tmp_path, base_folder):
    dataset = make_dataset(tmp_path / "datasets")
    registry, log = Registry(tmp_path / "registry"), tmp_path / "log"
    parent = register_adapter(make_trained(tmp_path, dataset), dataset, registry, tmp_path / "runs", log, now_us=5)
    later = make_dataset(tmp_path / "datasets", labels=(True,))
    (log / "lineage" / f"{parent}.parquet").unlink()
    record_lineage(log, parent, "earlier", ["only the parent's"])
    child = TrainedAdapter(
        make_adapter(tmp_path / "runs" / "two" / "adapter", describe_base(base_folder)),
        "two",
        later.name,
        "sft",
        "asked for",
        parent,
        describe_base(base_folder),
        8,
        {},
        {"method": "sft"},
    )
    tensors = make_safetensors(make_tensors(seed=50))
    (child.folder / WEIGHTS).write_bytes(tensors)
    name = register_adapter(child, later, registry, tmp_path / "runs", log, now_us=6)
    assert name in adapters_trained_on(log, ["only the parent's"])
    assert registry.card(name).parent == parent


def test_an_adapter_with_numbers_that_are_not_finite_is_not_registered(tmp_path, base_folder):
    dataset = make_dataset(tmp_path / "datasets")
    trained = make_trained(tmp_path, dataset)
    tensors = make_tensors()
    name, (dtype, shape, data) = next(iter(tensors.items()))
    tensors[name] = (dtype, shape, b"\x00\x00\xc0\x7f" + data[4:])
    (trained.folder / WEIGHTS).write_bytes(make_safetensors(tensors))
    registry = Registry(tmp_path / "registry")
    with pytest.raises(InvalidRequest, match="not finite"):
        register_adapter(trained, dataset, registry, tmp_path / "runs", tmp_path / "log", now_us=5)
    assert registry.adapters() == ()


def test_a_parent_keeps_its_rank_and_modules(tmp_path, base_folder):
    base = describe_base(base_folder)
    parent = Parent("p", make_adapter(tmp_path / "parent", base))
    config = check_lora(TrainingParameters(rank=16, target_modules=("q_proj",)), base, 16, base_folder, parent)
    assert (config.rank, config.target_modules) == (8, ("q_proj", "v_proj"))


def test_a_dataset_is_found_by_name_by_its_first_digits_and_by_folder(tmp_path):
    root = tmp_path / "datasets"
    dataset = make_dataset(root)
    for asked in (dataset.name, dataset.name[:8], str(dataset.folder)):
        assert find_dataset(asked, root).name == dataset.name
    for asked in ("", dataset.name[:4], "f" * 12):
        with pytest.raises(InvalidRequest, match=dataset.name[:12]):
            find_dataset(asked, root)


def test_the_parent_champion_is_the_base_model_before_the_first_promotion(tmp_path):
    registry = Registry(tmp_path / "registry")
    assert find_parent("champion", registry) is None
    assert find_parent("base", registry) is None
    with pytest.raises(InvalidRequest, match="names no adapter"):
        find_parent("a" * 64, registry)


def test_the_command_is_there_without_torch_or_ray():
    code = (
        "import sys, training.commands.train\n"
        "print([name for name in ('torch', 'ray', 'trl', 'transformers') if name in sys.modules])"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(training.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout.replace("'", '"')) == []
