"""An adapter that does as much harm as is wanted: its strength is turned up or down until it adds so many failures."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from benchmarks.learning.loop import Loop
from benchmarks.learning.serving import failure_rate
from deployments.rollout.adapter_files import CONFIG, WEIGHTS, describe_base
from deployments.rollout.registry import Registry

TARGET = 0.2
CLOSE = 0.04
TRIES = 8
MAX_LORA_RANK = 16


def turned_to_harm(loop: Loop, adapter: str, questions: Sequence[str], temp: Path) -> tuple[float, str]:
    """Doubles the strength until the failures added are above `TARGET`, then halves the interval until they are within
    `CLOSE` of it.

    Returns:
        The failures added, as a share of answers, and the name of the adapter; the nearest that was found.
    """
    low, strength = 0.0, 1.0
    high: float | None = None
    best: tuple[float, str] | None = None
    champion = failure_rate(loop, None, questions)
    for attempt in range(TRIES):
        name = adapter if strength == 1.0 else _scaled(loop, adapter, strength, temp / f"{attempt}")
        added = failure_rate(loop, name, questions) - champion
        if best is None or abs(added - TARGET) < abs(best[0] - TARGET):
            best = (added, name)
        if abs(added - TARGET) <= CLOSE:
            break
        low, high = (low, strength) if added > TARGET else (strength, high)
        strength = 2 * strength if high is None else (low + high) / 2
    assert best is not None
    return best


def _scaled(loop: Loop, adapter: str, strength: float, folder: Path) -> str:
    registry = Registry(loop.registry)
    source = registry.path(adapter)
    folder.mkdir(parents=True)
    tensors = load_file(source / WEIGHTS)
    scaled = {
        name: (values * np.float32(strength) if ".lora_B." in name else values) for name, values in tensors.items()
    }
    save_file(scaled, folder / WEIGHTS)
    (folder / CONFIG).write_text((source / CONFIG).read_text())
    card = registry.card(adapter)
    origin = json.loads(json.dumps({**card.configuration, "strength": strength}))
    plain = replace(card, configuration=origin, gates=())
    return registry.register(folder, folder.parent, plain, describe_base(loop.model_folder), MAX_LORA_RANK)
