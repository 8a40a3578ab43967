"""The cores stay light: neither ray nor torch nor vllm comes in with them."""

import subprocess
import sys

import pytest

from tests.cluster import ROOT

HEAVY = ("ray", "torch", "vllm", "transformers", "trl", "peft", "datasets")
PURE = [
    "graph.settings",
    "graph.contracts",
    "graph.lifecycle",
    "graph.pipeline",
    "graph.best_of",
    "deployments.controls.compiler",
    "deployments.controls.preview",
    "deployments.validator.policy",
    "deployments.validator.guard",
    "deployments.formatter.renderers",
    "deployments.feedback.writer",
    "deployments.feedback.events",
    "deployments.generator.autoscaling",
    "deployments.generator.placement",
    "deployments.generator.recent_requests",
    "deployments.generator.simulated",
    "deployments.ingress.prefix_key",
    "deployments.ingress.routes",
    "deployments.ingress.service",
    "deployments.generator.adapters",
    "deployments.generator.cpu_lora",
    "deployments.rollout.adapter_files",
    "deployments.rollout.adapter_store",
    "deployments.rollout.agreement",
    "deployments.rollout.aliases",
    "deployments.rollout.arms",
    "deployments.rollout.canary",
    "deployments.rollout.decisions",
    "deployments.rollout.follower",
    "deployments.rollout.log_tail",
    "deployments.rollout.mirror",
    "deployments.rollout.operations",
    "deployments.rollout.registry",
    "deployments.rollout.registry_files",
    "deployments.rollout.replicas",
    "deployments.rollout.sequential",
    "deployments.rollout.watch",
    "training.__main__",
    "training.answer_features",
    "training.cluster_room",
    "training.curation",
    "training.dataset_store",
    "training.evaluate",
    "training.gate",
    "training.gating",
    "training.held_out",
    "training.judge_fit",
    "training.judges",
    "training.kto_order",
    "training.near_duplicates",
    "training.parameters",
    "training.regression",
    "training.row_order",
    "training.rows",
    "training.run_folder",
    "training.selection",
]


def heavy_modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_importing_every_core_at_once_brings_nothing_heavy() -> None:
    assert heavy_modules_after(f"import {', '.join(PURE)}") == set()


@pytest.mark.parametrize("module", ["deployments.generator.vllm_engine", "deployments.generator.model_store"])
def test_the_engine_modules_import_vllm_only_when_started(module: str) -> None:
    assert heavy_modules_after(f"import {module}") == set()


def test_the_graph_is_built_without_vllm_or_torch() -> None:
    assert heavy_modules_after("import graph.app") <= {"ray"}
