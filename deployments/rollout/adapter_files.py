"""Checks a LoRA adapter's folder before anything serves it: its path, its configuration, its tensors.

    adapter_config.json          PEFT's; read strictly, and written anew in one canonical form
    adapter_model.safetensors    its header is parsed here, and its numbers are looked at; nothing is ever unpickled

What is refused is what vLLM refuses or would serve wrongly (vllm/lora/peft_helper.py and lora_model.py of 0.32), found
here, where it costs nothing, and not in the engine. The registry calls it; training should call `check_config` before
it starts. Format of the file: https://github.com/huggingface/safetensors#format
"""

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from graph.errors import ConfigurationError, InvalidRequest

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
ALLOWED_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of vLLM's ``max_lora_rank`` (vllm/config/lora.py, 0.32); we keep adapters to them too."""
MAX_ALPHA = 1_000_000
MAX_CONFIG_BYTES = 2**20
MAX_HEADER_BYTES = 100 * 10**6
"""Limit of the safetensors library itself."""
MAX_WEIGHTS_BYTES = 16 * 2**30
_SCAN_BYTES = 2**22
_TENSOR = re.compile(r"base_model\.model\.(?P<module>[A-Za-z0-9_.]+)\.lora_(?P<side>[AB])\.weight")
_PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""They set the adapter's first weights only; other named ones (PiSSA, OLoRA, LoftQ, CorDA) change the base model."""
_REFUSED = {
    "use_dora": "DoRA",
    "lora_bias": "LoRA bias",
    "modules_to_save": "whole modules beside the adapter",
    "alora_invocation_tokens": "activated LoRA",
    "layer_replication": "layer replication",
    "use_bdlora": "block-diagonal LoRA",
    "use_qalora": "QALoRA",
    "rank_pattern": "several ranks in one adapter",
    "alpha_pattern": "several alphas in one adapter",
    "trainable_token_indices": "trained tokens",
    "target_parameters": "parameters as targets",
    "fan_in_fan_out": "transposed weights",
    "layers_to_transform": "some layers only (name their modules in full among target_modules)",
}
"""What a configuration may not ask for, in words."""
_HARMLESS = frozenset(
    (
        "arrow_config",
        "auto_mapping",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "layers_pattern",
        "loftq_config",
        "lora_dropout",
        "lora_ga_config",
        "megatron_config",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "task_type",
    )
)
"""They say how it was trained. Not kept: what the weights are does not depend on them."""
_KEPT = ("base_model_name_or_path", "bias", "init_lora_weights", "lora_alpha", "peft_type", "r", "target_modules")


def _finite(dtype: str) -> Callable[[bytes], bool]:
    return lambda data: bool(np.isfinite(np.frombuffer(data, dtype)).all())


def _finite_bfloat16(data: bytes) -> bool:
    # numpy has no bfloat16: 1 sign bit, 8 of exponent (all ones: not finite), 7 of fraction.
    return not bool((np.frombuffer(data, "<u2") & 0x7F80 == 0x7F80).any())


_DTYPES = {"F32": (4, _finite("<f4")), "F16": (2, _finite("<f2")), "BF16": (2, _finite_bfloat16)}
"""Bytes of a number, and whether all in these bytes are finite."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The model that adapters are for. Make it once with `describe_base`."""

    name: str
    """What the adapter's configuration must call it, compared by the last part of a path."""
    sha256: str
    """Over its configuration, tokenizer and weights."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of every weight, by name, such as ``model.layers.0.self_attn.q_proj.weight``."""


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """The part of PEFT's configuration that the served adapter depends on."""

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    """Sorted: PEFT writes a set, in another order each time."""
    use_rslora: bool
    base_name: str

    def encode(self) -> bytes:
        """The file that PEFT and vLLM read, the same bytes for the same adapter."""
        content = {
            "base_model_name_or_path": self.base_name,
            "bias": "none",
            "init_lora_weights": True,
            "lora_alpha": self.alpha,
            "peft_type": "LORA",
            "r": self.rank,
            "target_modules": list(self.target_modules),
            "task_type": "CAUSAL_LM",
            "use_rslora": self.use_rslora,
        }
        return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a safetensors header; the bytes are ``begin`` to ``end`` after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def describe_base(folder: Path, name: str | None = None) -> BaseModel:
    """Read a base model's identity and shapes. Blocks: it reads every byte of the weights once.

    Args:
        folder: With config.json and safetensors files, as `resolve_model` gives it.
        name: What adapters call it; None: the folder's name.

    Raises:
        ConfigurationError: There are no such files, or they are damaged.
    """
    weights = sorted(folder.glob("*.safetensors"))
    if not weights or not (folder / "config.json").is_file():
        raise ConfigurationError(f"{folder} holds no model: config.json and *.safetensors are needed there.")
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weights:
        with path.open("rb") as file:
            try:
                tensors, _ = _read_header(file, path.stat().st_size, path)
            except InvalidRequest as error:
                raise ConfigurationError(f"{error.message} It is the base model that is served.") from error
        shapes |= {tensor: entry.shape for tensor, entry in tensors.items()}
    others = [path for path in (folder / "config.json", folder / "tokenizer.json") if path.is_file()]
    return BaseModel(
        name or folder.name, combined_sha256({p.name: file_sha256(p) for p in [*others, *weights]}), shapes
    )


def combined_sha256(sha256_by_name: Mapping[str, str]) -> str:
    """Return one hash for several files: that of ``sha256sum FILES...``' own output, files in the order of their names.

    So it can be checked by hand: ``sha256sum adapter_config.json adapter_model.safetensors | sha256sum``.
    """
    lines = (f"{sha256}  {name}\n" for name, sha256 in sorted(sha256_by_name.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_folder(folder: Path, within: Path) -> Path:
    """Return the adapter's folder, resolved, once its path and its two files are safe to open.

    Args:
        folder: As it was given, perhaps by an admin request; relative ones are below ``within``.
        within: The only place that adapters may come from.

    Raises:
        InvalidRequest: The path has ``..`` or leads out, there is no such folder, a file is missing, is empty, is a
            link or no plain file, or is too large.
    """
    if ".." in folder.parts or "\0" in str(folder):
        raise InvalidRequest(f"The adapter path {str(folder)!r} must not hold '..'; name the folder itself.", "path")
    try:
        resolved, allowed = (within / folder).resolve(), within.resolve()
        is_folder = resolved.is_dir()
    except (OSError, RuntimeError) as error:  # a name that is too long, or links in a circle
        raise InvalidRequest(f"The adapter path {str(folder)!r} cannot be followed: {error}.", "path") from None
    if not resolved.is_relative_to(allowed):
        raise InvalidRequest(
            f"The adapter path {str(folder)!r} leads out of {within}; put the adapter below it.", "path"
        )
    if not is_folder:
        raise InvalidRequest(
            f"The adapter path {str(folder)!r} is no folder; it must hold {CONFIG} and {WEIGHTS}.", "path"
        )
    for name, most in ((CONFIG, MAX_CONFIG_BYTES), (WEIGHTS, MAX_WEIGHTS_BYTES)):
        try:
            found = os.lstat(resolved / name)
        except FileNotFoundError:
            raise InvalidRequest(
                f"{resolved} holds no {name}; save the adapter with PEFT's save_pretrained.", "path"
            ) from None
        if not stat.S_ISREG(found.st_mode):
            raise InvalidRequest(f"{resolved / name} is a link or no plain file; put the file itself there.", "path")
        if not 0 < found.st_size <= most:
            raise InvalidRequest(f"{resolved / name} has {found.st_size} bytes; 1 to {most} are allowed.", "path")
    return resolved


def check_config(data: bytes, base: BaseModel, max_lora_rank: int) -> AdapterConfig:
    """Return what counts of an adapter_config.json that the engine can serve as it was trained.

    Args:
        data: The file.
        base: The model that is served.
        max_lora_rank: The engine's setting.

    Raises:
        InvalidRequest: It is no such file, is for another base model, has a rank that is not allowed, or asks for
            what is not served; the message names the key.
    """
    config = _parse_json(data, CONFIG)
    if config.get("peft_type") != "LORA":
        raise _refuse("peft_type", config.get("peft_type"), "'LORA'; train a LoRA adapter")
    for key, meaning in _REFUSED.items():
        if config.get(key):
            raise _refuse(key, config[key], f"off: an adapter with {meaning} is not taken; train without")
    if config.get("bias", "none") != "none":
        raise _refuse("bias", config["bias"], "'none'; train without")
    init = config.get("init_lora_weights", True)
    if not isinstance(init, bool) and not (isinstance(init, str) and init.lower() in _PLAIN_INITS):
        allowed = f"true, false or one of {', '.join(_PLAIN_INITS)}: others change the base model's own weights"
        raise _refuse("init_lora_weights", init, allowed)
    known = {*_KEPT, *_REFUSED, *_HARMLESS, "use_rslora"}
    for key, value in config.items():
        # PEFT adds keys with every version. Left off, a new feature changes nothing.
        if key not in known and value:
            raise _refuse(key, value, "left off: this version does not know what it does")
    rank = config.get("r")
    ranks = [allowed for allowed in ALLOWED_RANKS if allowed <= max_lora_rank]
    if type(rank) is not int or rank not in ranks:
        raise _refuse("r", rank, f"one of {', '.join(map(str, ranks))} (the engine's max_lora_rank is {max_lora_rank})")
    alpha: Any = config.get("lora_alpha")
    # type(), not isinstance: True is an int. Compared as is: float() of a huge integer raises.
    if type(alpha) not in (int, float) or not 0 < alpha <= MAX_ALPHA:
        raise _refuse("lora_alpha", alpha, f"a number above 0 and at most {MAX_ALPHA}")
    use_rslora = config.get("use_rslora", False)
    if type(use_rslora) is not bool:
        raise _refuse("use_rslora", use_rslora, "true or false")
    name = config.get("base_model_name_or_path")
    if not isinstance(name, str) or _last_part(name) != _last_part(base.name):
        raise _refuse("base_model_name_or_path", name, f"{base.name!r}, the model that is served")
    return AdapterConfig(rank, alpha, _target_modules(config), use_rslora, _last_part(base.name))


def check_weights(path: Path, config: AdapterConfig, base: BaseModel) -> None:
    """Return if the tensors are a whole adapter of this base model; nothing is kept. Blocks: reads every byte once.

    Raises:
        InvalidRequest: The file is truncated or no safetensors, a tensor is not lora_A or lora_B of a target module,
            has no counterpart, does not fit the rank or the base model, or holds a number that is not finite.
    """
    with path.open("rb") as file:
        tensors, start = _read_header(file, os.fstat(file.fileno()).st_size, path)
        modules = _modules(tensors, config)
        for module, sides in modules.items():
            _check_shapes(module, sides, config.rank, base)
        for name, tensor in tensors.items():
            _check_numbers(file, start, name, tensor)


def _modules(tensors: Mapping[str, Tensor], config: AdapterConfig) -> dict[str, dict[str, Tensor]]:
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is None or not any(_is_target(match["module"], target) for target in config.target_modules):
            raise InvalidRequest(
                f"The tensor {name!r} is none of a plain LoRA adapter; allowed are lora_A.weight and lora_B.weight "
                f"below base_model.model, of the target modules {', '.join(config.target_modules)}."
            )
        if tensor.dtype not in _DTYPES:
            raise InvalidRequest(
                f"The tensor {name!r} has numbers of type {tensor.dtype}; save it as one of: {', '.join(_DTYPES)}."
            )
        modules.setdefault(match["module"], {})[match["side"]] = tensor
    if not modules:
        raise InvalidRequest(f"{WEIGHTS} holds no tensor; train again.")
    absent = [target for target in config.target_modules if not any(_is_target(m, target) for m in modules)]
    if absent:
        raise InvalidRequest(f"{WEIGHTS} holds no tensor of the target modules {', '.join(absent)}; train again.")
    return modules


def _is_target(module: str, target: str) -> bool:
    """PEFT's rule: the whole name, or its last parts."""
    return module == target or module.endswith(f".{target}")


def _check_shapes(module: str, sides: Mapping[str, Tensor], rank: int, base: BaseModel) -> None:
    if len(sides) != 2:
        raise InvalidRequest(
            f"The module {module!r} has lora_{''.join(sides)} only; both A and B are needed; train again."
        )
    weight = base.shapes.get(f"{module}.weight")
    if weight is None or len(weight) != 2:
        raise InvalidRequest(
            f"The base model {base.name!r} has no linear module {module!r}: this adapter is of another one. "
            "Train it on the model that is served."
        )
    rows, columns = weight
    for side, expected in (("A", (rank, columns)), ("B", (rows, rank))):
        if sides[side].shape != expected:
            raise InvalidRequest(
                f"lora_{side} of {module!r} has the shape {list(sides[side].shape)}; rank {rank} on the base model "
                f"{base.name!r} makes it {list(expected)}."
            )


def _check_numbers(file: BinaryIO, start: int, name: str, tensor: Tensor) -> None:
    _, are_finite = _DTYPES[tensor.dtype]
    file.seek(start + tensor.begin)
    left = tensor.end - tensor.begin
    while left:
        data = file.read(min(left, _SCAN_BYTES))
        if not data:
            raise InvalidRequest(f"{WEIGHTS} ends inside the tensor {name!r}; it was cut while it was read.")
        left -= len(data)
        if not are_finite(data):
            raise InvalidRequest(
                f"The tensor {name!r} holds numbers that are not finite: training diverged; do not serve it."
            )


def _read_header(file: BinaryIO, size: int, path: Path) -> tuple[dict[str, Tensor], int]:
    """The header's tensors by name, and where their bytes start. The file has ``size`` bytes in all."""
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > min(size - 8, MAX_HEADER_BYTES):
        raise InvalidRequest(f"{path} is truncated or no safetensors file: its header would end beyond the file.")
    header = _parse_json(file.read(length), f"the header of {path}")
    header.pop("__metadata__", None)
    try:
        tensors = dict(_entries(header))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequest(
            f"The header of {path} is no safetensors header: {error}. Save the adapter again."
        ) from None
    start, at = 8 + length, 0
    # Without gaps or overlaps, as the format demands: nothing is hidden between the tensors.
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        known = _DTYPES.get(tensor.dtype)
        wrong = known is not None and tensor.end - tensor.begin != math.prod(tensor.shape) * known[0]
        if tensor.begin != at or tensor.end < at or wrong:
            raise InvalidRequest(f"{path}: the bytes of {name!r} are not where its shape says. Save the adapter again.")
        at = tensor.end
    if start + at != size:
        raise InvalidRequest(
            f"{path} has {size} bytes and its header speaks of {start + at}: it is truncated or damaged."
        )
    return tensors, start


def _entries(header: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        shape = tuple(entry["shape"])
        if not all(type(number) is int and number >= 0 for number in (begin, end, *shape)):
            raise ValueError(f"{name!r} has offsets or a shape that are no whole numbers from 0 on")
        yield name, Tensor(str(entry["dtype"]), shape, begin, end)


def _parse_json(data: bytes, what: str) -> dict[str, Any]:
    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # Python keeps the last of two equal keys, other readers the first: what was checked might not be what is read.
        made = dict(pairs)
        if len(made) != len(pairs):
            raise ValueError("a key is given twice")
        return made

    try:
        parsed = json.loads(data, object_pairs_hook=distinct)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{what} is not valid JSON: {error}. Save the adapter again.") from None
    if not isinstance(parsed, dict):
        raise InvalidRequest(f"{what} must be a JSON object. Save the adapter again.")
    return parsed


def _target_modules(config: Mapping[str, Any]) -> tuple[str, ...]:
    targets = config.get("target_modules")
    named = isinstance(targets, list) and all(
        isinstance(t, str) and re.fullmatch(r"[A-Za-z0-9_.]+", t) for t in targets
    )
    if not named or not targets:
        raise _refuse("target_modules", targets, "a list of module names, such as ['q_proj', 'v_proj']")
    return tuple(sorted(set(targets)))


def _last_part(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]


def _refuse(key: str, value: object, allowed: str) -> InvalidRequest:
    shown = repr(value)
    return InvalidRequest(
        f"{CONFIG}: {key} is {shown if len(shown) <= 80 else shown[:77] + '...'}; it must be {allowed}.", key
    )
