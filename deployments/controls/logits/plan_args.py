"""How a ``LogitsPlan`` travels into the engine's process: as one entry of ``SamplingParams.extra_args``. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from graph.contracts import LogitsPlan

KEY = "rheostat"
MAX_STRENGTH = 100.0
MAX_SPARED = 4096


def to_extra_args(plan: LogitsPlan, spared_ids: Sequence[int]) -> dict[str, Any]:
    """Plain data for msgpack: the plan without its text, and the tokens that the text stands for."""
    levers = asdict(plan)
    del levers["spared_text"]
    return {KEY: {**levers, "spared_ids": list(spared_ids)[:MAX_SPARED]}}


def from_extra_args(extra_args: Mapping[str, Any] | None) -> tuple[LogitsPlan, tuple[int, ...]] | None:
    """The plan and the spared tokens; None where a request brings no plan.

    Raises:
        ValueError: It is not what ``to_extra_args`` makes; vLLM answers it with a 400.
    """
    given = (extra_args or {}).get(KEY)
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise ValueError(f"{KEY}: got {type(given).__name__}; must be a mapping")
    values = dict(given)
    spared = values.pop("spared_ids", [])
    if not isinstance(spared, list) or not all(isinstance(each, int) and each >= 0 for each in spared):
        raise ValueError(f"{KEY}.spared_ids: must be a list of token ids")
    try:
        plan = LogitsPlan(**values)
    except TypeError as error:
        raise ValueError(f"{KEY}: {error}") from None
    for name in ("rarity", "anchor", "stops", "casual"):
        strength = getattr(plan, name)
        if name == "rarity" and strength is None:
            continue
        if not isinstance(strength, int | float) or not math.isfinite(strength) or abs(strength) > MAX_STRENGTH:
            raise ValueError(f"{KEY}.{name}: got {strength!r}; must be from {-MAX_STRENGTH} to {MAX_STRENGTH}")
    if not isinstance(plan.connect, bool):
        raise ValueError(f"{KEY}.connect: got {plan.connect!r}; must be true or false")
    if plan.target_tokens is not None and (not isinstance(plan.target_tokens, int) or plan.target_tokens < 1):
        raise ValueError(f"{KEY}.target_tokens: got {plan.target_tokens!r}; must be a whole number from 1")
    return plan, tuple(spared)
