"""Real training: TRL on real weights, killed, resumed and repeated; of the packaged model, and of a tiny one of its kind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.durability.recording import QuickFiles
from deployments.controls.catalogue import load_catalogue
from deployments.feedback.lineage import adapters_trained_on
from deployments.generator.model_store import packaged_model_dir
from deployments.rollout.adapter_store import BASE
from deployments.rollout.registry import Registry
from graph.errors import Conflict, InvalidRequest
from graph.settings import PROJECT_ROOT
from tests.curation_log import CurationLog, fill
from training.curate import LogSource, curate
from training.curation import CurationParameters
from training.parameters import Parent, TrainingParameters
from training.train import register_adapter, train

CATALOGUE = load_catalogue(PROJECT_ROOT / "configs/controls.yaml")
TIMEOUT_S = 1500


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("training")
    log = fill(CurationLog(root / "log"))
    return curate(root / "datasets", CurationParameters(), log=LogSource(log.write()), files=QuickFiles())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model of the packaged one's kind and tokenizer, small enough to train in seconds."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny"
    config = LlamaConfig.from_pretrained(packaged_model_dir())
    config.update({"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2})
    config.update({"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16})
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(packaged_model_dir() / name, folder / name)
    return folder


def train_on(dataset, model, runs, notes=None, **options):
    chosen = {name: options.pop(name) for name in ("workers", "parent", "on_step") if name in options}
    parameters = TrainingParameters(**{"steps": 4, "batch_size": 4, "checkpoint_steps": 2, **options})
    on_note = (notes if notes is not None else []).append
    return train(dataset, model, parameters, runs, catalogue=CATALOGUE, on_note=on_note, **chosen)


@pytest.mark.timeout(TIMEOUT_S)
def test_the_packaged_model_learns_from_corrections_and_its_adapter_is_registered(dataset, tmp_path):
    losses = []
    trained = train_on(
        dataset,
        packaged_model_dir(),
        tmp_path / "runs",
        steps=6,
        on_step=lambda done, total, loss: losses.append(loss),
    )
    assert losses[-1] < losses[1]
    assert trained.metrics["steps"] == 6
    registry, log = Registry(tmp_path / "registry"), tmp_path / "log"
    name = register_adapter(trained, dataset, registry, tmp_path / "runs", log, now_us=1)
    assert name == trained.name
    assert registry.card(name).parent == BASE
    assert adapters_trained_on(log, list(dataset.event_ids("sft", ["train"]))[:1]) == (name,)


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("method", ["sft", "dpo", "kto"])
def test_the_same_training_gives_the_same_bytes_and_another_seed_others(dataset, tiny, tmp_path, method):
    first, again = (train_on(dataset, tiny, tmp_path / str(n), method=method) for n in range(2))
    assert first.name == again.name
    assert train_on(dataset, tiny, tmp_path / "0", method=method, seed=1).name != first.name
    assert ("reward_margin" in first.metrics) == (method != "sft")


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("damaged", [False, True], ids=["whole", "last checkpoint damaged"])
def test_a_killed_training_goes_on_from_its_last_whole_checkpoint(dataset, tiny, tmp_path, damaged):
    options = {"steps": 6, "batch_size": 4, "checkpoint_steps": 2}
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "from tests.engine.test_training import train_on\n"
        "from training.dataset_store import open_dataset\n"
        "folder = pathlib.Path(sys.argv[2])\n"
        "show = lambda done, total, loss: print(done, flush=True)\n"
        f"train_on(open_dataset(folder.parent, folder.name), pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4]), "
        f"on_step=show, **{options!r})\n"
    )
    arguments = [str(PROJECT_ROOT), str(dataset.folder), str(tiny), str(tmp_path / "runs")]
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.strip() == "5":
                process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    checkpoints = sorted((tmp_path / "runs").glob("*/checkpoints/step-*"))
    assert [path.name for path in checkpoints] == ["step-00000002", "step-00000004"]
    if damaged:
        (checkpoints[-1] / "optimizer.pt").write_bytes(b"not what was saved")
    notes = []
    trained = train_on(dataset, tiny, tmp_path / "runs", notes, **options)
    expected = 2 if damaged else 4
    assert trained.resumed_at == expected
    assert f"Resumed at step {expected} of 6." in notes
    assert trained.metrics["steps"] == 6
    assert trained.name == train_on(dataset, tiny, tmp_path / "uninterrupted", **options).name


@pytest.mark.timeout(TIMEOUT_S)
def test_a_training_that_is_done_is_not_repeated_and_two_at_once_are_refused(dataset, tiny, tmp_path):
    rivals = []

    def start_another(done, total, loss):
        if done == 1:
            with pytest.raises(Conflict, match="Another process trains"):
                train_on(dataset, tiny, tmp_path)
            rivals.append(done)

    first = train_on(dataset, tiny, tmp_path, on_step=start_another)
    assert rivals == [1]
    begun = time.monotonic()
    notes = []
    again = train_on(dataset, tiny, tmp_path, notes)
    assert (again.name, again.metrics) == (first.name, first.metrics)
    assert any("done already" in note for note in notes)
    assert time.monotonic() - begun < first.metrics["seconds"] + 60


@pytest.mark.timeout(TIMEOUT_S)
def test_a_training_that_diverges_leaves_no_adapter(dataset, tiny, tmp_path):
    with pytest.raises(InvalidRequest, match="diverged at step") as refused:
        train_on(dataset, tiny, tmp_path, learning_rate=1e38, warmup_share=0.0)
    assert refused.value.code == "diverged"
    assert not list(tmp_path.glob("*/adapter"))


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_a_parent_is_gone_on_from(dataset, tiny, tmp_path, method):
    parent = train_on(dataset, tiny, tmp_path, method="sft")
    child = train_on(dataset, tiny, tmp_path, method=method, parent=Parent(parent.name, parent.folder), seed=2)
    assert child.parent == parent.name
    assert child.name != parent.name
    assert json.loads((child.folder / "adapter_config.json").read_bytes())["r"] == 8


@pytest.mark.timeout(TIMEOUT_S)
def test_a_worker_of_ray_train_gives_the_adapter_back_and_leaves_no_cluster(dataset, tiny, tmp_path):
    import ray

    seen = []
    trained = train_on(dataset, tiny, tmp_path, workers=1, on_step=lambda done, total, loss: seen.append(done))
    assert trained.metrics["steps"] == 4
    assert seen[-1] == 4
    assert not ray.is_initialized()
    assert sorted(path.name for path in Path(trained.folder).iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_nothing_is_asked_of_a_hub():
    import training.trainer_loop  # noqa: F401 - for what it sets

    assert os.environ["HF_HUB_OFFLINE"] == "1"
