"""Metric contracts: which metrics feedback may speak of, what values each takes, and which way is better.

``load_contracts`` reads ``configs/metrics.yaml`` and refuses whatever could not be served. Pure but for that read. The
event checks, the ingress (at start-up) and the analysis call it; it knows neither events nor rows.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from graph.errors import ConfigurationError
from graph.strict_yaml import KeyPath, YamlFile, read_yaml

MAX_METRICS = 256
MAX_LABEL_CHARS = 64
MAX_NUMBER = 1e12
MAX_NAMES_SHOWN = 20
RESERVED_NAMES = ("comment", "correction", "preference", "retract", "supersede", "demonstration", "output")
"""Kinds without a metric, and what other services call a correction."""

MetricKind = Literal["thumb", "rating", "label", "implicit"]
_KIND_OF_TYPE: Mapping[str, MetricKind] = {
    "boolean": "thumb",
    "number": "rating",
    "label": "label",
    "implicit": "implicit",
}
_KEYS_OF_TYPE = {
    "boolean": ("better",),
    "number": ("range", "better", "unit"),
    "label": ("values",),
    "implicit": ("range", "better", "unit"),
}
_COMMON_KEYS = ("type", "description")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class MetricContract:
    """One metric. ``kind`` is the kind of event that speaks of it.

    ``lowest`` and ``highest`` are both set or both None (no number); ``values`` is empty where any label is allowed.
    """

    name: str
    kind: MetricKind
    lowest: float | None = None
    highest: float | None = None
    values: tuple[str, ...] = ()
    better: Literal["higher", "lower"] | None = None
    unit: str | None = None
    description: str | None = None

    def fault_of(self, value: object) -> str | None:
        """What is wrong with ``value`` and what is allowed, as the rest of a sentence; None: nothing."""
        match self.kind:
            case "thumb":
                return None if type(value) is bool else "must be true (up) or false (down)"
            case "label" if self.values:
                return None if value in self.values else f"must be one of: {list_names(self.values)}"
            case "label":
                return None if is_label(value) else f"must be a string of 1 to {MAX_LABEL_CHARS} characters, not blank"
            case _ if self.lowest is None or self.highest is None:
                return None if value is None else f"is not for '{self.name}', which takes none"
            case _ if is_number(value, self.lowest, self.highest):
                return None
        unit = f" ({self.unit})" if self.unit else ""
        return f"must be a number from {self.lowest:.12g} to {self.highest:.12g}{unit}"


_BUILT_IN = (
    MetricContract("thumb", "thumb", better="higher", description="Whether the answer was good."),
    MetricContract("rating", "rating", 1.0, 5.0, (), "higher", "stars", "How good the answer was."),
    MetricContract("label", "label", description="Any word."),
    MetricContract("copied", "implicit", better="higher", description="The answer was copied."),
    MetricContract("regenerated", "implicit", better="lower", description="Another answer was asked for."),
    MetricContract(
        "abandoned",
        "implicit",
        better="lower",
        description="The page was left while the answer was being written.",
    ),
    MetricContract("dwell", "implicit", 0.0, 604_800.0, (), None, "seconds", "How long the answer was looked at."),
)
BUILT_IN: Mapping[str, MetricContract] = MappingProxyType({contract.name: contract for contract in _BUILT_IN})
"""There even if the file does not name them, so that an event of any kind has its metric."""


def is_number(value: object, lowest: float, highest: float) -> bool:
    """Whether it is a number, no boolean, in the range, both ends allowed."""
    # type(), not isinstance: True is an int. Compared as is: float() of a huge integer raises.
    return type(value) in (int, float) and lowest <= value <= highest  # type: ignore[operator]


def is_label(value: object) -> bool:
    """Whether it is a string of 1 to 64 characters that is not blank."""
    return isinstance(value, str) and bool(value.strip()) and len(value) <= MAX_LABEL_CHARS


def explain_unknown(name: str | None, kind: str, contracts: Mapping[str, MetricContract]) -> str:
    """Why ``name`` is no metric of ``kind`` and which ones are, as the rest of a sentence."""
    known = [each.name for each in contracts.values() if each.kind == kind]
    if name is None:
        return f"is missing; known {kind} metrics: {list_names(known)}"
    other = contracts.get(name)
    got = f"is {name!r}, " + ("not a known metric" if other is None else f"a metric of kind {other.kind}")
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{got}; known {kind} metrics: {list_names(known)}{hint}"


def list_names(names: Sequence[str]) -> str:
    """The names as a text of bounded length for a message."""
    shown = ", ".join(names[:MAX_NAMES_SHOWN])
    more = len(names) - MAX_NAMES_SHOWN
    return (f"{shown} and {more} more" if more > 0 else shown) or "none"


def load_contracts(path: Path) -> Mapping[str, MetricContract]:
    """The metrics of a file over the built-in ones, by name, built-in first. Blocks on the disk.

    Raises:
        ConfigurationError: One line a fault, each ``file:line: key.path: what was got; what is allowed``.
    """
    file = read_yaml(path)
    faults = [f"{file.place(at)}: {'.'.join(map(str, at)) or 'the file'}: {reason}" for at, reason in _faults(file)]
    if faults:
        raise ConfigurationError("\n".join(faults))
    told = {name: _contract(name, entry) for name, entry in file.data["metrics"].items()}
    return MappingProxyType({**BUILT_IN, **told})


def _contract(name: str, entry: Mapping[str, Any]) -> MetricContract:
    lowest, highest = entry.get("range") or (None, None)
    return MetricContract(
        name=name,
        kind=_KIND_OF_TYPE[entry["type"]],
        lowest=None if lowest is None else float(lowest),
        highest=None if highest is None else float(highest),
        values=tuple(entry.get("values") or ()),
        better=entry.get("better"),
        unit=entry.get("unit"),
        description=entry.get("description"),
    )


def _faults(file: YamlFile) -> Iterator[tuple[KeyPath, str]]:
    """(where, what was got and what is allowed) of everything in the file that cannot be served."""
    data = file.data
    if not isinstance(data, dict):
        yield (), "must be a mapping with 'version: 1' and 'metrics'."
        return
    for key in data:
        if key not in ("version", "metrics"):
            yield (key,), "is not a known key; known here: version, metrics."
    if type(data.get("version")) is not int or data["version"] != 1:
        yield ("version",), f"got {_show(data.get('version'))}; must be 1."
    metrics = data.get("metrics")
    if not isinstance(metrics, dict):
        yield ("metrics",), f"got {_show(metrics)}; must be a mapping of metrics by name."
        return
    if len(metrics) > MAX_METRICS:
        yield ("metrics",), f"holds {len(metrics)} metrics; at most {MAX_METRICS}."
    for name, entry in metrics.items():
        yield from ((("metrics", name, *at), reason) for at, reason in _metric_faults(name, entry))


def _metric_faults(name: str, entry: object) -> Iterator[tuple[KeyPath, str]]:
    if not _NAME.fullmatch(name):
        yield (), "is no name for a metric; use 1 to 64 letters, digits, _ . -"
    if name in RESERVED_NAMES:
        yield (), f"is reserved; choose another name than {', '.join(RESERVED_NAMES)}."
    if not isinstance(entry, dict):
        yield (), f"got {_show(entry)}; must be a mapping with a type."
        return
    kind = entry.get("type")
    if not isinstance(kind, str) or kind not in _KIND_OF_TYPE:
        yield ("type",), f"got {_show(kind)}; must be one of: {', '.join(_KIND_OF_TYPE)}."
        return
    if name in BUILT_IN and _KIND_OF_TYPE[kind] != BUILT_IN[name].kind:
        wanted = next(each for each, made in _KIND_OF_TYPE.items() if made == BUILT_IN[name].kind)
        yield ("type",), f"got {kind!r}; {name} is built in and stays {wanted}."
    allowed = (*_COMMON_KEYS, *_KEYS_OF_TYPE[kind])
    for key in entry:
        if key not in allowed:
            yield (key,), f"is not a key of a {kind} metric; known here: {', '.join(allowed)}."
    yield from _value_faults(kind, entry)


def _value_faults(kind: str, entry: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    if "better" in entry and entry["better"] not in ("higher", "lower"):
        yield ("better",), f"got {_show(entry['better'])}; must be higher or lower."
    if kind in ("boolean", "number") and "better" not in entry:
        yield ("better",), "is missing; say higher or lower, so that reports know which way is good."
    if kind == "number" and "range" not in entry:
        yield ("range",), "is missing; give [lowest, highest]."
    if "range" in entry and not _is_range(entry["range"]):
        yield ("range",), f"got {_show(entry['range'])}; must be [lowest, highest], numbers up to {MAX_NUMBER:g}."
    if "values" in entry and not _are_labels(entry["values"]):
        yield (
            ("values",),
            f"got {_show(entry['values'])}; must be a list of different words of 1 to {MAX_LABEL_CHARS} characters.",
        )
    for key in ("unit", "description"):
        if key in entry and not (isinstance(entry[key], str) and entry[key].strip()):
            yield (key,), f"got {_show(entry[key])}; must be a text."


def _is_range(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(is_number(end, -MAX_NUMBER, MAX_NUMBER) for end in value)
        and bool(value[0] < value[1])
    )


def _are_labels(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_label, value)) and len(set(value)) == len(value)


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
