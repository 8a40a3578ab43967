"""The same comparison with the engine on a GPU: a model in the shape of an 8B Llama, weights at random.

What an answer costs depends on a model's shape and not on what it has learnt, so no weights have to be there; the
tokenizer is the packaged model's. Rheostat has the replicas that ``serve_config.yaml`` begins with.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.contestants.process import Server, temporary_folder
from benchmarks.contestants.ray_llm import ray_llm
from benchmarks.contestants.rheostat import rheostat
from benchmarks.contestants.vllm_server import vllm_server
from deployments.generator.model_store import packaged_model_dir
from graph.settings import PROJECT_ROOT

CONTESTANTS = ("rheostat", "vllm", "ray-default")
ENGINE_ARGS: Mapping[str, Any] = {
    "dtype": "bfloat16",
    "max_model_len": 2048,
    "max_num_seqs": 256,
    "block_size": 16,
    "enable_prefix_caching": True,
    "load_format": "dummy",
}
SHAPE: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "bfloat16",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_act": "silu",
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
}
"""Llama 3.1 8B's, but for the vocabulary, which is the tokenizer's: 7.4 billion parameters."""
OF_THE_TOKENIZER = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")


@contextlib.contextmanager
def start(name: str, arguments: Mapping[str, Any], quality: Mapping[str, Any]) -> Iterator[Server]:
    """The server that ``name`` of `CONTESTANTS` stands for.

    Args:
        arguments: Of everybody's engine.
        quality: Rheostat's quality policy.
    """
    with temporary_folder() as folder:
        model = random_model(folder / "model")
        if name == "rheostat":
            side = _rheostat(model, arguments, quality)
        elif name == "vllm":
            side = vllm_server(model, arguments, {})
        else:
            side = ray_llm("default", str(model), arguments, {}, on_gpu=True)
        with side as server:
            yield server


def random_model(folder: Path) -> Path:
    """Makes a model folder of `SHAPE` without weights, to be loaded with ``load_format: dummy``."""
    packaged = packaged_model_dir()
    folder.mkdir(parents=True)
    for path in packaged.iterdir():
        if path.name.startswith("tokenizer") or path.suffix == ".jinja":
            shutil.copyfile(path, folder / path.name)
    config = json.loads((packaged / "config.json").read_text())
    shape = {**SHAPE, **{key: config[key] for key in OF_THE_TOKENIZER if key in config}}
    (folder / "config.json").write_text(json.dumps(shape, indent=1))
    # The service names its base model by these files' hash, so there has to be one: an empty safetensors file.
    header = b"{}      "
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


def _rheostat(
    model: Path, arguments: Mapping[str, Any], quality: Mapping[str, Any]
) -> contextlib.AbstractContextManager[Server]:
    application = yaml.safe_load((PROJECT_ROOT / "serve_config.yaml").read_text())["applications"][0]
    shipped = {each["name"]: each for each in application["deployments"]}
    deployments: dict[str, dict[str, Any]] = {
        name: {"num_replicas": each.get("num_replicas") or each["autoscaling_config"]["min_replicas"]}
        for name, each in shipped.items()
    }
    deployments["Generator"] |= {
        "max_ongoing_requests": shipped["Generator"]["max_ongoing_requests"],
        "ray_actor_options": {"num_cpus": 1, "num_gpus": 1},
    }
    at_once = shipped["Ingress"]["user_config"]["max_inflight_choices"]
    # Over what configs/serve/cpu.yaml says for CPUs.
    engine = {"batch_invariant": False, "engine_args": {"enforce_eager": False, **arguments, "enable_lora": False}}
    return rheostat(
        {"kind": "vllm", "vllm": engine},
        model=model,
        deployments=deployments,
        user_config={
            "Ingress": {"quality": quality, "max_inflight_choices": at_once},
            "Validator": {"quality": quality},
        },
    )
