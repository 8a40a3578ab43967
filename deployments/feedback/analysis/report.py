"""The report: every number that terminal, HTML and JSON show, as one plain dict.

`make_report` puts the sections together; each section is a function of the views in a module of its own. It does not
know how numbers are shown. The command line and, through it, ``GET /v1/analysis`` call it.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import duckdb

from deployments.feedback.analysis.agreement import calibrate, compare_with_validators
from deployments.feedback.analysis.breakdowns import break_down, follow_time, sum_approval
from deployments.feedback.analysis.control_settings import setting_cells, sum_settings
from deployments.feedback.analysis.drift import choose_spans, measure_drift
from deployments.feedback.analysis.overview import (
    count_kinds,
    count_rows,
    make_funnel,
    measure_collection,
    measure_performance,
    measure_quality,
    measure_reliability,
)
from deployments.feedback.analysis.period import Scope, choose_bucket, to_iso
from deployments.feedback.analysis.scoped import fetch_all, open_scope
from deployments.feedback.analysis.sums import sum_scope
from deployments.feedback.analysis.troubles import rank_prompts, summarise_signals, watch_raters
from deployments.feedback.snapshot import Snapshot

FORMAT = 1
"""Of the report's JSON; raised when a name changes its meaning or goes."""
EXCERPT_CHARS = 160
COUNTED = ("log", "generations", "served", "undelivered", "feedback", "signals", "joined", "orphans", "thumbs")
"""Counts that are the same in the terminal, HTML, JSON and SQL and, as far as they are rows, the training rows."""


def make_report(
    con: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    since_us: int | None = None,
    *,
    until_us: int | None = None,
    tenant: str | None = None,
    baseline_us: int | None = None,
    now_us: int,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """Return the report as plain JSON: no NaN, no infinity, every share with its n.

    Args:
        con: From `views.open_views`, of the same snapshot. Blocks for seconds on a large log.
        snapshot: For what only the files tell.
        since_us: Rows of this time on, us since 1970 UTC; None: all.
        until_us: Rows before this time.
        tenant: Rows of this tenant only.
        baseline_us: Where the span begins that drift compares the period with; it ends at ``since_us``. None: the
            period's halves are compared.
        now_us: For the heading.
        seed: Of the bootstrap.
        on_step: Told what is done next.

    Raises:
        duckdb.Error: A Parquet file of the snapshot is gone: compaction removed it. Open a new snapshot.
    """
    scope = Scope(since_us, until_us, tenant)
    on_step("effective feedback")
    open_scope(con, scope)
    kinds, first_us, last_us = count_kinds(con)
    bucket = choose_bucket(first_us or 0, last_us or 0)
    on_step("answers and thumbs")
    sums = sum_scope(con, bucket)
    counts = count_rows(con, kinds, sums)
    metrics = {
        "response_quality": measure_quality(sums),
        "feedback_collection": measure_collection(sums),
        "system_performance": measure_performance(con, scope, counts["served"]),
        "integration_reliability": measure_reliability(counts, snapshot),
    }
    on_step("control settings")
    before, after = choose_spans(con, scope, baseline_us)
    settings = sum_settings(con, scope, before, after)
    on_step("agreement and drift")
    report = {
        "format": FORMAT,
        "generated_at": to_iso(now_us),
        "period": {
            "since": to_iso(since_us),
            "until": to_iso(until_us),
            "first_row": to_iso(first_us),
            "last_row": to_iso(last_us),
            "bucket": bucket.name,
            "tenant": tenant,
        },
        "counts": counts,
        "metrics": metrics,
        "funnel": make_funnel(counts, snapshot, scope),
        "approval": sum_approval(con),
        "by": break_down(sums),
        "by_setting": [setting_cells(setting) for setting in settings],
        "time": follow_time(sums),
        "agreement": compare_with_validators(con),
        "calibration": calibrate(con),
        "drift": measure_drift(con, before, after, settings, counts["served"]),
        "prompts": rank_prompts(con),
        "raters": watch_raters(con),
        "signals": summarise_signals(con, seed),
    }
    on_step("excerpts")
    _add_excerpts(con, list(_shown_answers(report)))
    return report


def excerpt_of(text: str | None) -> str | None:
    """Return the beginning of a text on one line."""
    if text is None:
        return None
    # No more than could be shown: an answer may be long, and most of it blank.
    line = " ".join(text[: 8 * EXCERPT_CHARS].split())
    return line if len(line) <= EXCERPT_CHARS else line[: EXCERPT_CHARS - 1].rstrip() + "…"


def last_user_turn(prompt: str | None) -> str | None:
    """Return what the user asked last, from the log's JSON of messages; None: nobody did, or it was dropped."""
    try:
        messages = json.loads(prompt) if prompt else []
    except ValueError:
        return prompt
    turns = (
        [m for m in messages if isinstance(m, dict) and m.get("role") == "user"] if isinstance(messages, list) else []
    )
    content = turns[-1].get("content") if turns else None
    return content if isinstance(content, str) else None


def _shown_answers(report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every item of the report that shows an answer's texts; it names the answer in ``generation_id``."""
    yield from report["agreement"]["liked_but_failed"]
    yield from report["agreement"]["disliked_but_passed"]
    yield from report["prompts"]


def _add_excerpts(con: duckdb.DuckDBPyConnection, items: list[dict[str, Any]]) -> None:
    # One query for all of them: texts are most of the log, and are read for what is shown only.
    ids = sorted({item["generation_id"] for item in items})
    texts: dict[str, tuple[str | None, str | None]] = {}
    if ids:
        marks = ", ".join("?" * len(ids))
        sql = f"SELECT generation_id, prompt, answer FROM main.generations WHERE generation_id IN ({marks})"
        texts = {generation_id: (prompt, answer) for generation_id, prompt, answer in fetch_all(con, sql, ids)}
    for item in items:
        prompt, answer = texts.get(item["generation_id"], (None, None))
        item |= {"prompt_excerpt": excerpt_of(last_user_turn(prompt)), "answer_excerpt": excerpt_of(answer)}
