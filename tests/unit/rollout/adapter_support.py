"""Builders of small adapters and of the base model that they are for. Safetensors are put together by hand."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from deployments.rollout.adapter_files import CONFIG, WEIGHTS, BaseModel, describe_base
from deployments.rollout.adapter_store import BASE, AdapterCard

SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}
MODULES = tuple(f"model.layers.{layer}.self_attn.{name}" for layer in (0, 1) for name in ("q_proj", "v_proj"))
IN, OUT, RANK = 6, 4, 8


def make_safetensors(tensors: dict[str, tuple[str, tuple[int, ...], bytes]], **header: Any) -> bytes:
    """The bytes of a file with these tensors: (dtype, shape, bytes) by name."""
    entries, at = dict(header), 0
    for name, (dtype, shape, data) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    encoded = json.dumps(entries).encode()
    return len(encoded).to_bytes(8, "little") + encoded + b"".join(data for _, _, data in tensors.values())


def make_tensor(shape: tuple[int, ...], seed: int = 0, dtype: str = "F32") -> tuple[str, tuple[int, ...], bytes]:
    numbers = np.random.default_rng(seed).standard_normal(math.prod(shape)).astype("<f4")
    if dtype == "BF16":
        return dtype, shape, (numbers.view("<u4") >> 16).astype("<u2").tobytes()
    return dtype, shape, numbers.astype({"F32": "<f4", "F16": "<f2", "I64": "<i8"}[dtype]).tobytes()


def make_tensors(seed: int = 0, rank: int = RANK, dtype: str = "F32") -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    made = {}
    for number, module in enumerate(MODULES):
        made[f"base_model.model.{module}.lora_A.weight"] = make_tensor((rank, IN), seed + number, dtype)
        made[f"base_model.model.{module}.lora_B.weight"] = make_tensor((OUT, rank), seed + number + 100, dtype)
    return made


def make_config(**changes: Any) -> dict[str, Any]:
    """As PEFT 0.21 writes it, its defaults included."""
    config = {
        "alora_invocation_tokens": None,
        "alpha_pattern": {},
        "auto_mapping": None,
        "base_model_name_or_path": "/models/tiny",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_to_transform": None,
        "loftq_config": {},
        "lora_alpha": 16,
        "lora_bias": False,
        "lora_dropout": 0.0,
        "megatron_core": "megatron.core",
        "modules_to_save": None,
        "peft_type": "LORA",
        "peft_version": "0.21.2",
        "qalora_group_size": 16,
        "r": RANK,
        "rank_pattern": {},
        "target_modules": ["v_proj", "q_proj"],
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    return config | changes


def make_base(folder: Path) -> BaseModel:
    """A base model of the modules' weights only, in ``folder``/tiny."""
    home = folder / "tiny"
    home.mkdir(parents=True)
    (home / "config.json").write_text("{}")
    weights = {f"{module}.weight": make_tensor((OUT, IN), number) for number, module in enumerate(MODULES)}
    (home / "model.safetensors").write_bytes(make_safetensors(weights))
    return describe_base(home)


def write_adapter(
    folder: Path, seed: int = 0, tensors: Any = None, weights: bytes | None = None, **config: Any
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(make_config(**config)))
    (folder / WEIGHTS).write_bytes(weights or make_safetensors(tensors or make_tensors(seed), __metadata__={"a": "b"}))
    return folder


def make_card(base: BaseModel, **changes: Any) -> AdapterCard:
    fields = {
        "dataset": "dataset-1",
        "base_model": base.name,
        "base_sha256": base.sha256,
        "configuration": {"method": "kto", "betas": (0.9, 0.95)},
        "seed": 7,
        "metrics": {"loss": 0.5},
        "parent": BASE,
        "created_us": 1_700_000_000_000_000,
    }
    return AdapterCard(**(fields | changes))
