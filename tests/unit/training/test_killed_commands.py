"""Curation and training killed by SIGKILL between their steps: nothing half-done stays, and the same command goes on.

The optimizer is not what is tested here (tests/engine kills the real one): a stand-in writes one checkpoint of a small
adapter. All around it is real: the command, its process, checkpoints, result, lineage and registry.
"""

import json
import os
import signal
import subprocess
import sys

import pytest

from benchmarks.durability.recording import QuickFiles
from deployments.feedback.lineage import adapters_trained_on
from deployments.rollout.adapter_files import describe_base
from deployments.rollout.adapter_store import ADAPTERS, BASE, INCOMING
from deployments.rollout.registry import Registry
from tests.cluster import ROOT
from tests.curation_log import CurationLog, fill
from tests.unit.rollout.adapter_support import make_base, make_card, write_adapter
from training.curate import LogSource, curate
from training.curation import CurationParameters
from training.dataset_store import list_datasets, open_dataset

DIE = "(lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))"
TRAINER = (
    """
import os, signal, sys, types
from pathlib import Path
from deployments.feedback import files
from training import checkpoints, curate, dataset_store, run_folder, train
from deployments.rollout import adapter_store, registry_files
from training.__main__ import main
from tests.unit.rollout.adapter_support import make_safetensors, make_tensors

def run_training(job, cluster, folder, start, on_step, on_note):
    if start is None:
        made = folder / "work"
        made.mkdir()
        (made / run_folder.WEIGHTS).write_bytes(make_safetensors(make_tensors(77)))
        checkpoints.keep(made, job.run, job.steps, 1.0, folder / "checkpoints")
        start_step = None
    else:
        start_step = start.step
    after_checkpoint()
    found = checkpoints.newest(folder / "checkpoints", job.run)
    return types.SimpleNamespace(checkpoint=found, metrics={"loss": 0.5}, resumed_at=start_step)

after_checkpoint = lambda: None
sys.modules["training.trainer_loop"] = types.SimpleNamespace(
    run_training=run_training, count_tokens=lambda model, rows, method: [1] * len(rows)
)
"""
    + f"die = {DIE}\n"
)
KILL_TRAINING = {
    "while it trains": "after_checkpoint = die",
    "before the adapter has its place": 'files.LocalFiles.rename = lambda self, a, b: die() if b.name == "adapter" else os.rename(a, b)',
    "before its result is written": "run_folder.file_sha256 = die",
    "before its lineage is written": "train.record_lineage = die",
    "before it is registered": "adapter_store.check_config = die",
    "while it is registered": "registry_files.RegistryFiles.copy = die",
    "before it has its name": "adapter_store.AdapterStore._check_same = adapter_store.encode = die",
    "after it has its name": "adapter_store.AdapterStore._empty = lambda self, folder, e=adapter_store.AdapterStore._empty: die() if self.adapters()[1:] else e(self, folder)",
}
KILL_CURATION = {
    "while it selects": "curate.select = die",
    "while it writes": "dataset_store._write = lambda path, data, layer: (path.write_bytes(data[: len(data) // 2]), die())",
    "before it has its name": "files.LocalFiles.rename = die",
}


def run(code, *arguments):
    """(exit status, JSON or None, what people read)"""
    done = subprocess.run(
        [sys.executable, "-c", f"{TRAINER}{code}\nsys.exit(main())", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "400"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return fill(CurationLog(tmp_path_factory.mktemp("log") / "log")).write()


@pytest.fixture(scope="module")
def dataset(log, tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    return curate(root, CurationParameters(), log=LogSource(log), files=QuickFiles())


@pytest.fixture
def champion(tmp_path):
    """The adapter that is served."""
    make_base(tmp_path)
    base, registry = describe_base(tmp_path / "tiny"), Registry(tmp_path / "registry", QuickFiles())
    name = registry.register(write_adapter(tmp_path / "first/one"), tmp_path / "first", make_card(base), base, 16)
    registry.set_challenger(name, expected_version=0, now_us=1, by="tester")
    registry.promote(name, expected_version=1, now_us=1, by="tester", ungated=True, reason="it serves")
    return name


@pytest.mark.exhaustive
@pytest.mark.parametrize("moment", KILL_TRAINING)
def test_a_killed_training_leaves_the_champion_and_the_same_command_goes_on(champion, dataset, tmp_path, moment):
    arguments = ["train", "--dataset", dataset.name, "--datasets", dataset.folder.parent]
    for flag, folder in (("--registry", "registry"), ("--runs", "runs"), ("--log", "log"), ("--model", "tiny")):
        arguments += [flag, tmp_path / folder]
    registry = Registry(tmp_path / "registry")
    before = registry.aliases()
    status, told, shown = run(KILL_TRAINING[moment], *arguments)
    assert (status, told) == (-signal.SIGKILL, None), shown
    assert registry.aliases() == before
    assert registry.verify(champion)
    for name in registry.adapters():
        assert registry.verify(name)
        assert registry.card(name)
    assert (len(registry.adapters()) == 2) == (moment == "after it has its name")

    status, told, shown = run("", *arguments)
    assert status == 0, shown
    assert set(registry.adapters()) == {champion, told["adapter"]}
    assert registry.card(told["adapter"]).dataset == dataset.name
    assert registry.aliases() == before
    assert registry.aliases().previous == BASE
    assert told["adapter"] in adapters_trained_on(tmp_path / "log", list(dataset.event_ids("sft", ["train"]))[:1])
    assert not (tmp_path / "registry" / ADAPTERS / INCOMING).exists()
    (folder,) = (tmp_path / "runs").iterdir()
    assert {path.name for path in folder.iterdir()} == {"adapter", "result.json", "run.json", "run.lock"}
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.exhaustive
@pytest.mark.parametrize("moment", KILL_CURATION)
def test_a_killed_curation_leaves_no_dataset_and_the_next_one_no_litter(log, dataset, tmp_path, moment):
    root = tmp_path / "datasets"
    arguments = ["curate", "--log", log, "--out", root, "--workers", 0]
    status, told, shown = run(KILL_CURATION[moment], *arguments)
    assert (status, told) == (-signal.SIGKILL, None), shown
    assert list_datasets(root) == []
    status, told, shown = run("", *arguments)
    assert status == 0, shown
    assert list_datasets(root) == [told["dataset"]]
    assert open_dataset(root, told["dataset"]).read("kto", "train").num_rows
    assert not [path.name for path in root.iterdir() if path.name.startswith(".") and path.is_dir()]
