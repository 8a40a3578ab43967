"""What a training is asked to do, and what is refused of it: parameters, method, the adapter's shape, the cluster.

All of it is decided from the parameters, the dataset's manifest and the base model's header; no row is read for it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from deployments.rollout.adapter_files import (
    CONFIG,
    WEIGHTS,
    AdapterConfig,
    BaseModel,
    check_config,
    check_folder,
    check_weights,
)
from graph.errors import InvalidRequest
from training.curation import METHODS, Method

DEFAULT_MAX_LORA_RANK = 16
"""vLLM's own."""
PREFERENCE: tuple[Method, ...] = ("sft", "dpo", "kto")
"""What ``auto`` takes, first to last: a corrected text says what the answer should be, a pair which of two is better,
a thumb only that one is."""
LEARNING_RATES: Mapping[Method, float] = {"sft": 1e-3, "dpo": 2e-4, "kto": 2e-4}
"""For rank 8 and a few dozen steps of 8 rows on a 135M model."""
_UNTRAINABLE = ("lm_head", "embed_tokens")

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class TrainingParameters:
    """All that decides, beside dataset, base and parent, which adapter comes out."""

    method: Literal["auto", "sft", "dpo", "kto"] = "auto"
    """auto: the first of `PREFERENCE` that the dataset can be used for."""
    steps: int = 48
    batch_size: int = 8
    """Rows a worker and step. For KTO the dataset's own, for which its rows are ordered, takes its place."""
    learning_rate: float | None = None
    """At its highest, after a linear warm-up; it falls to 0 along a cosine. None: the method's, `LEARNING_RATES`."""
    warmup_share: float = 0.1
    """Of the steps."""
    beta: float = 0.1
    """DPO and KTO: how far the policy is held to the reference; higher holds it closer."""
    rank: int = 8
    alpha: float = 16
    target_modules: tuple[str, ...] = ("q_proj", "v_proj")
    lora: Mapping[str, Any] = field(default_factory=dict)
    """More of PEFT's LoraConfig, such as ``{"use_rslora": True}``; what vLLM does not serve is refused."""
    max_length: int = 512
    """Tokens of prompt and answer; longer rows are left out and counted."""
    precision: Precision = "auto"
    """Of the base model's weights while it trains; the adapter's are float32. auto: bfloat16 on a GPU, float32 on a
    CPU."""
    checkpoint_steps: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch_size", 1), ("max_length", 8), ("checkpoint_steps", 1)):
            if getattr(self, name) < least:
                raise InvalidRequest(f"{name} is {getattr(self, name)}; it must be {least} or more.", param=name)
        for name in ("learning_rate", "beta"):
            value = getattr(self, name)
            if value is not None and not (0 < value < math.inf):
                raise InvalidRequest(f"{name} is {value}; it must be above 0.", param=name)
        if not 0 <= self.warmup_share <= 1:
            raise InvalidRequest(f"warmup_share is {self.warmup_share}; it must be from 0 to 1.", param="warmup_share")
        allowed = ("auto", *METHODS)
        if self.method not in allowed:
            raise InvalidRequest(f"method is {self.method!r}; allowed: {', '.join(allowed)}.", param="method")
        if self.precision not in get_args(Precision):
            raise InvalidRequest(
                f"precision is {self.precision!r}; allowed: {', '.join(get_args(Precision))}.", param="precision"
            )
        if not 0 <= self.seed < 2**32:
            raise InvalidRequest(f"seed is {self.seed}; it must be from 0 to 2^32 - 1.", param="seed")

    def rate_of(self, method: Method) -> float:
        """The learning rate at its highest: the one asked for, else the method's."""
        return self.learning_rate or LEARNING_RATES[method]


@dataclass(frozen=True, slots=True)
class Parent:
    """A registered adapter that training goes on from; its rank, alpha and modules are kept."""

    name: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where it is trained."""

    workers: int = 0
    """Processes of Ray Train; 0: this one, without a cluster."""
    use_gpu: bool = False
    """A GPU for each worker."""
    storage: str | None = None
    """Path or URI (pyarrow.fs) of the checkpoints, for workers on several machines; None: the folder of the run."""
    address: str = "local"
    """Of a Ray cluster that sees the model's folder; ``local`` starts one for this training."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise InvalidRequest(f"workers is {self.workers}; it must be 0 or more.", param="workers")
        if self.storage is not None and not self.workers:
            raise InvalidRequest(
                f"storage is {self.storage!r} with workers 0: in this process the checkpoints stay in the folder of "
                "the run. Leave storage out, or set workers to 1 or more.",
                param="storage",
            )


def choose_method(manifest: Mapping[str, Any], asked: str) -> tuple[Method, str]:
    """Return the method and why it is that one.

    Raises:
        InvalidRequest: The dataset cannot be used for it; the message gives the manifest's reason.
    """
    methods = manifest["methods"]
    faults: list[str] = []
    for method in PREFERENCE if asked == "auto" else tuple(name for name in METHODS if name == asked):
        if methods[method]["usable"]:
            passed = f"; {' '.join(faults)}" if faults else ""
            preferred = f"the first of {', '.join(PREFERENCE)} that this dataset can be used for{passed.rstrip('.')}"
            return method, preferred if asked == "auto" else "asked for"
        faults.append(methods[method]["reason"])
    raise InvalidRequest(
        "The dataset cannot be used for " + ("any method" if asked == "auto" else asked) + f". {' '.join(faults)}",
        param="method",
    )


def check_lora(
    parameters: TrainingParameters, base: BaseModel, max_lora_rank: int, model_folder: Path, parent: Parent | None
) -> AdapterConfig:
    """Return the adapter's configuration, checked as the registry will check it; a parent's where there is one.

    Raises:
        InvalidRequest: vLLM would not serve such an adapter, or a module is not one of the model's linear layers.
    """
    asked = {
        **parameters.lora,
        "base_model_name_or_path": str(model_folder.resolve()),
        "lora_alpha": parameters.alpha,
        "peft_type": "LORA",
        "r": parameters.rank,
        "target_modules": list(parameters.target_modules),
    }
    config = check_config(json.dumps(asked).encode(), base, max_lora_rank)
    if parent is not None:
        folder = check_folder(parent.folder.resolve(), parent.folder.resolve())
        config = check_config((folder / CONFIG).read_bytes(), base, max_lora_rank)
        check_weights(folder / WEIGHTS, config, base)
    for target in config.target_modules:
        is_linear = any(
            len(shape) == 2 and (name == f"{target}.weight" or name.endswith(f".{target}.weight"))
            for name, shape in base.shapes.items()
        )
        if not is_linear or target.rpartition(".")[2] in _UNTRAINABLE:
            found = {name.split(".")[-2] for name, shape in base.shapes.items() if len(shape) == 2}
            known = ", ".join(sorted(found - set(_UNTRAINABLE)))
            raise InvalidRequest(
                f"The target module {target!r} is no linear layer of {base.name!r} that can be trained; it has: "
                f"{known}.",
                param="target_modules",
            )
    return config
