"""Chooses among all candidates what goes into the dataset, and into which split of it. Pure.

For each method, in this order:

1. what a tombstone names goes; of regenerations, those whose second answer nothing says was kept;
2. of equal prompts and answers one stays, with the verdict of most raters, one vote each; a tie takes all out. What a
   hard check said stands against any number of votes;
3. near-duplicates with the same verdict go. Those with different verdicts stay: what little they differ in is what the
   raters saw;
4. no rater keeps more than their share of the rows that are left;
5. the prompt's place decides the split.

A method without rows, of one class, with too few raters or an empty split is not usable: it gets no rows at all, and
the report says why. Each candidate is among the rows or counted under one reason: ``candidates == rows + left_out``.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from graph.errors import InvalidRequest
from training.curation import METHODS, SPLITS, CurationParameters, Method, Reason, Split, assign_split, exact
from training.kto_order import class_weights, order_for_kto
from training.near_duplicates import find_near_duplicates
from training.rows import MESSAGES

_COMMON = (
    pa.field("event_id", pa.string(), nullable=False),
    pa.field("event_ids", pa.list_(pa.string()), nullable=False),
    pa.field("source", pa.string(), nullable=False),
    pa.field("weight", pa.float64(), nullable=False),
    pa.field("tenant", pa.string(), nullable=False),
    pa.field("model", pa.string()),
    pa.field("adapter", pa.string()),
    pa.field("settings", pa.string()),
    pa.field("answer_format", pa.string()),
    pa.field("language", pa.string()),
)
_PROMPT = pa.field("prompt", MESSAGES, nullable=False)
_COMPLETION = pa.field("completion", MESSAGES, nullable=False)
ROW_SCHEMAS: Mapping[Method, pa.Schema] = {
    "kto": pa.schema([_PROMPT, _COMPLETION, pa.field("label", pa.bool_(), nullable=False), *_COMMON]),
    "sft": pa.schema([_PROMPT, _COMPLETION, *_COMMON]),
    "dpo": pa.schema(
        [
            _PROMPT,
            pa.field("chosen", MESSAGES, nullable=False),
            pa.field("rejected", MESSAGES, nullable=False),
            *_COMMON,
        ]
    ),
}
"""TRL's columns first. ``event_id``: of the signal; ``event_ids``: of all rows of the log behind the row, for lineage.
``settings``: the dials that the answer was given under (JSON), which the prompt does not show."""

_NARROW = (
    "event_id",
    "row_crc",
    "event_ids",
    "method",
    "source",
    "left_out",
    "tenant",
    "rater",
    "said_us",
    "generation_id",
    "other_generation_id",
    "opinion",
    "other_opinion",
    "label",
    "side",
    "place",
    "prompt_key",
    "text_key",
)


@dataclass(slots=True)
class Fault:
    """Why a method cannot be trained."""

    code: str
    """no_feedback, one_class, too_few_raters or empty_split."""
    message: str
    """What there is, what is needed, and what to do."""


@dataclass(slots=True)
class MethodRows:
    """What one method gets."""

    tables: dict[Split, pa.Table]
    """Of `ROW_SCHEMAS`; empty where the method is not usable."""
    report: dict[str, Any]
    """Counts, for the manifest."""
    fault: Fault | None
    row_ids: list[str]
    """``split event_id crc`` of each row, for a hash of what is in."""
    event_ids: set[str]


@dataclass(slots=True)
class Selection:
    """The dataset before it is written."""

    methods: dict[Method, MethodRows]
    report: dict[str, Any]
    """Counts of all methods and of the signals that are for none."""
    row_ids_sha256: str
    event_ids: set[str]


@dataclass(slots=True, eq=False)
class _Row:
    """The narrow part of one candidate."""

    at: int
    """Its place in the table of candidates."""
    event_id: str
    row_crc: int
    event_ids: set[str]
    method: Method | None
    source: str
    left_out: Reason | None
    tenant: str
    rater: str | None
    said_us: int
    generation_id: str
    other_generation_id: str | None
    opinion: int
    other_opinion: int
    label: bool | None
    side: bool | None
    place: int | None
    prompt_key: str | None
    text_key: str | None

    @property
    def said_at(self) -> tuple[int, str]:
        return self.said_us, self.event_id


@dataclass(slots=True)
class _Funnel:
    """Rows of one method that are still in, and counts of the others by reason."""

    rows: list[_Row]
    left_out: Counter[Reason] = field(default_factory=Counter)

    def keep(self, keep: Callable[[_Row], bool], reason: Reason) -> None:
        kept = [row for row in self.rows if keep(row)]
        self.left_out[reason] += len(self.rows) - len(kept)
        self.rows = kept


def select(
    candidates: pa.Table,
    parameters: CurationParameters,
    erased: Collection[str] = frozenset(),
    on_step: Callable[[str], None] = lambda step: None,
) -> Selection:
    """Return the rows of each method and split, the same for equal candidates in any order.

    Args:
        candidates: All of them, from `rows.to_candidates`.
        erased: Ids of events and generations that tombstones name.
        on_step: Told what is done next.

    Raises:
        InvalidRequest: An event is there twice: two inputs overlap.
    """
    rows = _read_rows(candidates)
    judged = _sum_opinions(row for row in rows if row.event_ids.isdisjoint(erased))
    by_method: dict[Method | None, list[_Row]] = defaultdict(list)
    for row in rows:
        by_method[row.method].append(row)
    methods: dict[Method, MethodRows] = {}
    for method in METHODS:
        on_step(f"choosing {method} rows")
        methods[method] = _select_method(method, by_method[method], candidates, parameters, erased, judged)
    row_ids = sorted(f"{method} {row_id}" for method, chosen in methods.items() for row_id in chosen.row_ids)
    return Selection(
        methods=methods,
        report={
            "signals": len({row.event_id for row in rows}),
            "for_no_method": dict(sorted(Counter(row.left_out or "" for row in by_method[None]).items())),
            "methods": {method: chosen.report for method, chosen in methods.items()},
        },
        row_ids_sha256=hashlib.sha256("\n".join(row_ids).encode()).hexdigest(),
        event_ids=set().union(*(chosen.event_ids for chosen in methods.values())),
    )


def rater_limit(counts: Iterable[int], share: Fraction, others: int = 0) -> int:
    """Return the most rows that a rater may keep so that none has more than ``share`` of all that are kept; 0: none.

    The largest whole c with ``c <= share * (others + sum(min(count, c)))``. The right side minus the left is concave
    in c and not below 0 at 0, so everything below the largest c holds too, and it is found by bisection.

    Args:
        counts: Rows of each rater.
        others: Rows that no rater stands for.
    """
    counts = sorted(counts)
    low, high = 0, max(counts, default=0)
    while low < high:
        middle = (low + high + 1) // 2
        if middle <= share * (others + sum(min(count, middle) for count in counts)):
            low = middle
        else:
            high = middle - 1
    return low


def _read_rows(candidates: pa.Table) -> list[_Row]:
    columns = [candidates.column(name).to_pylist() for name in _NARROW]
    rows = [_Row(at, *values) for at, values in enumerate(zip(*columns, strict=True))]
    for row in rows:
        row.event_ids = set(row.event_ids)
    # Any order of reading gives the same dataset.
    rows.sort(key=lambda row: (row.event_id, row.method or ""))
    for one, other in pairwise(rows):
        if (one.event_id, one.method) == (other.event_id, other.method):
            raise InvalidRequest(
                f"The event {one.event_id!r} is in the inputs twice. Export the whole period into one file, or "
                "periods that do not overlap.",
                param="rows",
                code="repeated_event",
            )
    return rows


def _sum_opinions(rows: Iterable[_Row]) -> dict[tuple[str, str], set[int]]:
    """Of each answer, by (tenant, generation): whether anybody found it good (1) or bad (-1)."""
    judged: dict[tuple[str, str], set[int]] = defaultdict(set)
    for row in rows:
        judged[row.tenant, row.generation_id].add(row.opinion)
        if row.other_generation_id is not None:
            judged[row.tenant, row.other_generation_id].add(row.other_opinion)
    return judged


def _select_method(
    method: Method,
    rows: list[_Row],
    candidates: pa.Table,
    parameters: CurationParameters,
    erased: Collection[str],
    judged: Mapping[tuple[str, str], set[int]],
) -> MethodRows:
    funnel = _Funnel(rows)
    funnel.left_out.update(row.left_out for row in rows if row.left_out is not None)
    funnel.rows = [row for row in rows if row.left_out is None]
    funnel.keep(lambda row: row.event_ids.isdisjoint(erased), "erased")
    funnel.keep(lambda row: row.source != "regeneration" or _was_kept(row, judged), "not_kept")
    _merge_equal(funnel)
    _drop_near_duplicates(funnel, candidates, parameters)
    counts = Counter(row.rater for row in funnel.rows if row.rater is not None)
    unlimited = len(funnel.rows)
    checks = unlimited - counts.total()
    limit = rater_limit(counts.values(), exact(parameters.rater_share), checks)
    fault = _find_rater_fault(method, funnel, counts, limit, parameters)
    if fault is None:
        _limit_raters(funnel, limit, parameters.seed)
    splits: dict[Split, list[_Row]] = {split: [] for split in SPLITS}
    for row in _shuffle(funnel.rows, parameters.seed):
        assert row.place is not None, "a candidate has a place"
        splits[assign_split(row.place, parameters)].append(row)
    fault = fault or _find_split_fault(method, splits, parameters)
    report: dict[str, Any] = {
        "usable": fault is None,
        "reason": None if fault is None else fault.message,
        "candidates": len(rows),
        "left_out": dict(sorted((reason, count) for reason, count in funnel.left_out.items() if count)),
        "rows": len(funnel.rows),
        "sources": dict(sorted(Counter(row.source for row in funnel.rows).items())),
        "raters": len(counts),
        "rater_limit": limit,
        "largest_rater_before": max(counts.values(), default=0),
        "splits": {split: _describe(method, split_rows) for split, split_rows in splits.items()},
    }
    if method == "kto" and fault is None:
        splits["train"], report["training"] = _arrange_kto(splits["train"], parameters)
    kept = {split: [] if fault else split_rows for split, split_rows in splits.items()}
    return MethodRows(
        tables={split: _take(method, split_rows, candidates) for split, split_rows in kept.items()},
        report=report,
        fault=fault,
        row_ids=[f"{split} {row.event_id} {row.row_crc}" for split, chosen in kept.items() for row in chosen],
        event_ids={event_id for chosen in kept.values() for row in chosen for event_id in row.event_ids},
    )


def _was_kept(row: _Row, judged: Mapping[tuple[str, str], set[int]]) -> bool:
    """Whether somebody found the second answer good and nobody bad: that no third was asked for may be a closed tab."""
    assert row.other_generation_id is not None, "a regeneration names its second answer"
    said = judged[row.tenant, row.other_generation_id]
    return 1 in said and -1 not in said


def _merge_equal(funnel: _Funnel) -> None:
    groups: dict[str | None, list[_Row]] = defaultdict(list)
    for row in sorted(funnel.rows, key=lambda row: row.said_at):
        groups[row.text_key].append(row)
    kept: list[_Row] = []
    for group in groups.values():
        # In order of time, so that of one rater's the latest stands.
        votes = {row.rater: row.side for row in group if row.rater is not None}
        balance = sum(1 if side else -1 for side in votes.values())
        if any(row.source == "check" for row in group):
            balance = -1
        winners = [row for row in group if balance and row.side is (balance > 0)]
        funnel.left_out["contradicted"] += len(group) - len(winners)
        if winners:
            first = winners[0]
            # Their verdicts decided and their texts are in: an erasure of any of them speaks of this row.
            first.event_ids = set().union(*(row.event_ids for row in winners))
            funnel.left_out["duplicate"] += len(winners) - 1
            kept.append(first)
    funnel.rows = kept


def _drop_near_duplicates(funnel: _Funnel, candidates: pa.Table, parameters: CurationParameters) -> None:
    threshold = exact(parameters.near_duplicate)
    repeats: set[str] = set()
    for side in (True, False):
        rows = [row for row in funnel.rows if row.side is side]
        # As sets of plain ints they would fill the memory of a large log, so they are decoded a verdict at a time.
        shingles = candidates.column("shingles").take(pa.array([row.at for row in rows], pa.int64())).to_pylist()
        repeats |= {rows[place].event_id for place in find_near_duplicates(shingles, threshold)}
    funnel.keep(lambda row: row.event_id not in repeats, "near_duplicate")


def _limit_raters(funnel: _Funnel, limit: int, seed: int) -> None:
    seen: Counter[str] = Counter()
    stays = set()
    for row in _shuffle(funnel.rows, seed):
        if row.rater is not None:
            seen[row.rater] += 1
        if row.rater is None or seen[row.rater] <= limit:
            stays.add(row.event_id)
    funnel.keep(lambda row: row.event_id in stays, "rater_limit")


def _shuffle(rows: Iterable[_Row], seed: int) -> list[_Row]:
    """By a hash of seed and id: the same rows come in the same order, whatever comes with them."""
    return sorted(rows, key=lambda row: hashlib.sha256(f"{seed} {row.event_id}".encode()).digest())


def _find_rater_fault(
    method: Method, funnel: _Funnel, counts: Mapping[str, int], limit: int, parameters: CurationParameters
) -> Fault | None:
    if not funnel.rows:
        left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(funnel.left_out.items()) if count)
        why = f" Left out: {left_out}." if left_out else ""
        return Fault("no_feedback", f"{method}: no row.{why} {_ASK_FOR[method]}")
    labels = {row.label for row in funnel.rows}
    if method == "kto" and len(labels) == 1:
        there, missing = ("desirable", "undesirable") if labels == {True} else ("undesirable", "desirable")
        return Fault(
            "one_class",
            f"kto: all {len(funnel.rows)} rows are {there}; KTO learns from the difference and needs {missing} ones. "
            f"{_ASK_FOR[method]}",
        )
    needed = max(parameters.min_raters, ceil(1 / exact(parameters.rater_share)))
    if len(counts) < parameters.min_raters or limit < 1:
        return Fault(
            "too_few_raters",
            f"{method}: its {len(funnel.rows)} rows come from {_count(len(counts), 'rater')}; with at most "
            f"{parameters.rater_share:.4g} of the rows from one, and {parameters.min_raters} at least, {needed} are "
            "needed. Events without 'rater' are one rater. Ask more people, or raise rater_share to what one person "
            "may decide.",
        )
    return None


def _find_split_fault(
    method: Method, splits: Mapping[Split, Sequence[_Row]], parameters: CurationParameters
) -> Fault | None:
    shares = {"eval": exact(parameters.eval_share), "vault": exact(parameters.vault_share), "train": Fraction(1)}
    empty = [split for split in SPLITS if not splits[split] and shares[split]]
    if empty:
        told = ", ".join(f"{split} {len(splits[split])}" for split in SPLITS)
        prompts = len({row.place for rows in splits.values() for row in rows})
        hint = ""
        if parameters.split_by == "conversation":
            hint = ", or split by 'prompt' if all conversations begin alike"
        return Fault(
            "empty_split",
            f"{method}: the split {empty[0]!r} is empty (rows: {told}; {_count(prompts, 'different prompt')}). A "
            "prompt's hash decides its split, so "
            f"collect feedback on more prompts, raise the share of {empty[0]!r}{hint}.",
        )
    if method == "kto" and len({row.label for row in splits["train"]}) == 1:
        only = "desirable" if splits["train"][0].label else "undesirable"
        return Fault(
            "one_class",
            f"kto: all {len(splits['train'])} rows of the split 'train' are {only}; both classes are needed there. "
            f"{_ASK_FOR[method]}",
        )
    return None


_ASK_FOR: Mapping[Method, str] = {
    "kto": "Send thumbs, up and down, to POST /v1/feedback.",
    "sft": "Send corrections to POST /v1/feedback.",
    "dpo": "Send corrections or preferences to POST /v1/feedback.",
}


def _arrange_kto(rows: list[_Row], parameters: CurationParameters) -> tuple[list[_Row], dict[str, Any]]:
    labels = [bool(row.label) for row in rows]
    order = order_for_kto(labels, [row.prompt_key for row in rows], parameters.kto_batch_size)
    desirable_weight, undesirable_weight = class_weights(sum(labels), len(labels) - sum(labels))
    return [rows[place] for place in order.places], {
        "batch_size": parameters.kto_batch_size,
        "equal_prompts_in_a_batch": order.collisions,
        "desirable_weight": desirable_weight,
        "undesirable_weight": undesirable_weight,
    }


def _describe(method: Method, rows: Sequence[_Row]) -> dict[str, int]:
    told = {"rows": len(rows), "prompts": len({row.prompt_key for row in rows})}
    if method == "kto":
        told["desirable"] = sum(bool(row.label) for row in rows)
        told["undesirable"] = len(rows) - told["desirable"]
    return told


def _take(method: Method, rows: Sequence[_Row], candidates: pa.Table) -> pa.Table:
    schema = ROW_SCHEMAS[method]
    table = candidates.take(pa.array([row.at for row in rows], pa.int64())).select(schema.names)
    at = schema.get_field_index("event_ids")
    merged = pa.array([sorted(row.event_ids) for row in rows], schema.field(at).type)
    return table.set_column(at, schema.field(at), merged).cast(schema)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
