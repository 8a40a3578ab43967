"""The record of a run of real traffic, and the file of its answers beside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.controls.asking import Facts
from benchmarks.controls.code_version import code_version
from benchmarks.controls.figures import rounded
from benchmarks.controls.recording import describe_service, installed
from benchmarks.controls.serving import ANSWER_CODE, NOT_ANSWER_CODE
from benchmarks.record import write_record
from benchmarks.validation.traffic.asking import Sample
from graph.settings import PROJECT_ROOT

__all__ = ["RECORD", "make_record", "samples_path", "save_record", "serving_code"]

RECORD = PROJECT_ROOT / "benchmarks" / "results" / "validation-traffic-smollm2-135m.json"


def serving_code() -> str:
    """The version of the code that makes and judges answers, in this checkout."""
    judging = ("deployments/validator/**/*.py", "deployments/ingress/*.py", "graph/*.py")
    return code_version(PROJECT_ROOT, (*ANSWER_CODE, *judging), NOT_ANSWER_CODE)


def make_record(facts: Facts, figures: Mapping[str, Any], code: str) -> dict[str, Any]:
    """Figures, rounded, with what answered.

    Args:
        code: Of the service, as it was when the run began.
    """
    knobs = [{"name": knob["name"], "kind": knob["kind"]} for knob in facts.controls]
    return {"service": {**describe_service(facts, code), "controls": knobs}, "figures": rounded(figures)}


def save_record(
    path: Path, record: Mapping[str, Any], configuration: Mapping[str, Any], samples: Sequence[Sample]
) -> None:
    """Writes the record with versions and machine, and the samples beside it, a JSON line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(asdict(sample), ensure_ascii=False) + "\n" for sample in samples)
    samples_path(path).write_text(lines, encoding="utf-8")
    write_record(path, "validation-traffic", configuration, record["figures"], installed(), service=record["service"])


def samples_path(path: Path) -> Path:
    """Where the samples of a record are."""
    return path.with_suffix(".samples.jsonl")
