"""Sections of the report: counts, the funnel and the four success metrics."""

import json
from typing import Any

import duckdb

from deployments.feedback.analysis.cells import check_names, mean_cell, share_cell
from deployments.feedback.analysis.period import Scope
from deployments.feedback.analysis.scoped import fetch_all, fetch_one
from deployments.feedback.analysis.statistics import percentile
from deployments.feedback.analysis.sums import ScopeSums
from deployments.feedback.snapshot import Snapshot

TIMINGS_SAMPLE = 10_000
"""About so many answers' timings are read; they are JSON, and percentiles of more would not differ."""
_FIRST_RELEASE = "first_release_ms"


def count_kinds(con: duckdb.DuckDBPyConnection) -> tuple[dict[str, int], int | None, int | None]:
    """Rows by kind, and when the first and the last of all was written, us; None: there are none."""
    rows = fetch_all(
        con, "SELECT kind, count(*), min(ts_server_us), max(ts_server_us) FROM scoped.log GROUP BY kind ORDER BY kind"
    )
    kinds = {kind: n for kind, n, _, _ in rows}
    return kinds, min((row[2] for row in rows), default=None), max((row[3] for row in rows), default=None)


def count_rows(con: duckdb.DuckDBPyConnection, kinds: dict[str, int], sums: ScopeSums) -> dict[str, Any]:
    """Rows by what they are; the names are those of the views, and mean what `views.VIEWS` says."""
    served = sums.all["served"]
    generations = kinds.get("generation", 0)
    fates = dict(fetch_all(con, "SELECT fate, count(*) FROM scoped.feedback GROUP BY fate ORDER BY fate"))
    with_answer, joined = fetch_one(
        con,
        "SELECT count(answer_row), count(answer_row) FILTER (fate = 'effective') FROM scoped.feedback",
    )
    signals = fates.get("effective", 0)
    return {
        "log": sum(kinds.values()),
        "generations": generations,
        "served": served,
        "undelivered": generations - served,
        "feedback": sum(fates.values()),
        "signals": signals,
        "joined": joined,
        "orphans": signals - joined,
        "thumbs": sums.all["thumbs"],
        "with_answer": with_answer,
        "kinds": kinds,
        "fates": fates,
    }


def make_funnel(counts: dict[str, Any], snapshot: Snapshot, scope: Scope) -> dict[str, Any]:
    """From answers served to signals used, and where the rest went.

    An answer carries a token as it is served, so the first two are equal by construction. Repeats are known of the
    whole log only: a report on a part of it counts each event as submitted once.
    """
    durable = counts["feedback"]
    repeats = snapshot.integrity.duplicates if scope.is_whole else 0
    stages = (
        ("served", "answers", counts["served"]),
        ("token issued", "answers", counts["served"]),
        ("submitted", "events", durable + repeats),
        ("durable", "events", durable),
        ("joined", "events", counts["with_answer"]),
        ("used", "events", counts["joined"]),
    )
    fates = counts["fates"]
    return {
        "stages": [{"stage": stage, "unit": unit, "n": n} for stage, unit, n in stages],
        "not_used": {
            "repeats": repeats,
            "without an answer in the log": durable - counts["with_answer"],
            **{fate: fates.get(fate, 0) for fate in ("retract", "supersede", "retracted", "replaced")},
        },
    }


def measure_quality(sums: ScopeSums) -> dict[str, Any]:
    """Response quality: the validators' score, verdict and outcomes of all answers served."""
    served = sums.all["served"]
    checks: dict[str, int] = {}
    for text, group in sums.by["failed_checks"].items():
        for check in check_names(text):
            checks[check] = checks.get(check, 0) + group["served"]
    outcomes = sorted(sums.by["outcome"].items(), key=lambda item: (-item[1]["served"], item[0] or ""))
    return {
        "score": mean_cell(sums.all["scored"], sums.all["score_sum"], sums.all["score_squares"]),
        "passed": share_cell(sums.all["passed"], sums.all["judged"]),
        "outcomes": {
            name or "none": share_cell(group["served"], served) for name, group in outcomes if group["served"]
        },
        "failed_checks": dict(sorted(checks.items(), key=lambda item: (-item[1], item[0]))),
    }


def measure_collection(sums: ScopeSums) -> dict[str, Any]:
    """Feedback collection rate: of the answers served in the scope, the share with a signal, whenever it was given."""
    served = sums.all["served"]
    return {
        "any": share_cell(sums.all["collected"], served),
        "explicit": share_cell(sums.all["collected_explicit"], served),
    }


def measure_performance(con: duckdb.DuckDBPyConnection, scope: Scope, served: int) -> dict[str, Any]:
    """System performance: percentiles, ms, of a sample of answers that depends on their ids alone."""
    every = max(served // TIMINGS_SAMPLE, 1)
    texts = fetch_all(
        con,
        "SELECT timings FROM internal.sample_served(1) "
        f"WHERE {scope.predicate()} AND timings IS NOT NULL AND hash(event_id) % {every} = 0",
    )
    columns: dict[str, list[float]] = {}
    for (text,) in texts:
        for name, value in _timings(text).items():
            columns.setdefault(name, []).append(value)
    return {
        "sampled": len(texts),
        "of": served,
        "percentiles_ms": {name: _percentiles(values) for name, values in sorted(columns.items())},
    }


def measure_reliability(counts: dict[str, Any], snapshot: Snapshot) -> dict[str, Any]:
    """Integration reliability: what reached its caller, what found its answer, and how whole the log is."""
    integrity = snapshot.integrity
    return {
        "delivered": share_cell(counts["served"], counts["generations"]),
        "joined": share_cell(counts["joined"], counts["signals"]),
        "undelivered": counts["undelivered"],
        "orphans": counts["orphans"],
        "erasures": counts["kinds"].get("tombstone", 0),
        "log": {
            "duplicates": integrity.duplicates,
            "corrupt_segments": integrity.corrupt,
            "newer_segments": integrity.newer,
            "quarantined": integrity.quarantined,
            "segments": integrity.segments,
            "unsealed_segments": integrity.unsealed,
            "tail_rows": integrity.tail_rows,
        },
        "problems": list(snapshot.problems),
    }


def _timings(text: str) -> dict[str, float]:
    """Milliseconds by stage, and their total; empty for what the pipeline did not write."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    stages = {n: float(v) for n, v in found.items() if n.endswith("_ms") and type(v) in (int, float) and v >= 0}
    # The first release lies within the stages: it is no part of their sum.
    total = sum(value for name, value in stages.items() if name != _FIRST_RELEASE)
    return {**stages, "total_ms": total} if stages else {}


def _percentiles(values: list[float]) -> dict[str, Any]:
    values.sort()
    p50, p95 = percentile(values, 0.5), percentile(values, 0.95)
    return {
        "n": len(values),
        "p50": None if p50 is None else round(p50, 3),
        "p95": None if p95 is None else round(p95, 3),
    }
