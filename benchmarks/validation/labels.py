"""What people say of the raw outputs: ``corpus/raw_labels.yaml``, made by the rules of ``corpus/LABELLING.md``.

raw-001:
  defects: [truncation, language]
  reason: Ends in the middle of the second sentence, which is in Spanish.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.validation.corpus import CORPUS, CorpusError
from graph.errors import ConfigurationError
from graph.strict_yaml import YamlFile, read_yaml

__all__ = ["DEFECTS", "LABELS", "Label", "read_labels"]

LABELS = CORPUS / "raw_labels.yaml"
DEFECTS = (
    "truncation",
    "repetition",
    "language",
    "nonwords",
    "json_schema",
    "structure",
    "relevance",
    "empty",
    "refusal",
    "profanity",
    "pii",
    "secrets",
    "prompt_leak",
)
"""What a label may name: each is what the check of that name promises to find."""


@dataclass(frozen=True, slots=True)
class Label:
    """What is wrong with one output."""

    defects: tuple[str, ...]
    """Of DEFECTS; empty: nothing that the checks promise to find."""
    reason: str
    """One short sentence, on one line."""


def read_labels(ids: Collection[str], path: Path = LABELS) -> Mapping[str, Label]:
    """The label of each output, by its id.

    Args:
        ids: Of the outputs, each of which has a label.
        path: The file of labels.

    Raises:
        CorpusError: The file cannot be read, a label is malformed, an output has none, or one belongs to no output;
            names the file and the id.
    """
    try:
        file = read_yaml(path)
    except ConfigurationError as error:
        raise CorpusError(str(error)) from error
    if not isinstance(file.data, dict):
        raise CorpusError(f"{path}: expected a mapping of ids to labels")
    labels = {name: _read_label(file, name) for name in file.data}
    for name in ids:
        if name not in labels:
            raise CorpusError(f"{path}: {name} has no label")
    for name in labels:
        if name not in ids:
            raise CorpusError(f"{file.place((name,))}: {name} is the id of no raw output")
    return labels


def _read_label(file: YamlFile, name: str) -> Label:
    data = file.data[name]
    where = f"{file.place((name,))}: {name}"
    if not isinstance(data, dict) or data.keys() != {"defects", "reason"}:
        raise CorpusError(f"{where}: a label has the keys defects and reason, and no others")
    defects, reason = data["defects"], data["reason"]
    if not isinstance(defects, list):
        raise CorpusError(f"{where}: defects is a list, [] where nothing is wrong")
    for defect in defects:
        if defect not in DEFECTS:
            raise CorpusError(f"{where}: {defect!r} is no defect; there are: {', '.join(DEFECTS)}")
    if len(set(defects)) < len(defects):
        raise CorpusError(f"{where}: a defect is named twice")
    if not isinstance(reason, str) or not reason.strip() or "\n" in reason.strip():
        raise CorpusError(f"{where}: reason is one short sentence on one line")
    return Label(tuple(defects), reason.strip())
