"""Sections of the report: prompts that go wrong, raters who say more than others, and all signals by name."""

from typing import Any

import duckdb
import numpy as np

from deployments.feedback.analysis.cells import SMALL_N, share_cell
from deployments.feedback.analysis.scoped import fetch_all, fetch_one
from deployments.feedback.analysis.statistics import bootstrap_mean

LISTED = 10
MIN_ANSWERS = 5
"""Of a prompt, before it is listed."""
BURST_SIGNALS = 10
"""Of one rater in one minute: nobody reads that fast."""
MAX_DISTINCT_RATINGS = 10_000
"""Of one metric, most frequent first, for the bootstrap."""


def rank_prompts(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Prompts whose answers failed a check or were disliked, by the lower bound of that share; equal prompts are one.

    The lower bound, so that two of two do not come before two hundred of three hundred.
    """
    rows = fetch_all(
        con,
        f"""
        WITH opinions AS (
            SELECT answer_row, bool_or(NOT approved) AS disliked FROM scoped.thumbs GROUP BY answer_row
        ), answers AS MATERIALIZED (
            SELECT a.answer_row, prompt_hash, coalesce(NOT passed, false) AS failed, o.disliked,
                failed OR coalesce(o.disliked, false) AS troubled
            FROM scoped.answers a LEFT JOIN opinions o ON o.answer_row = a.answer_row
            WHERE prompt_hash IS NOT NULL
        ), prompts AS (
            SELECT prompt_hash, count(*) AS n, count(*) FILTER (failed) AS failed, count(disliked) AS rated,
                count(*) FILTER (disliked) AS disliked, count(*) FILTER (troubled) AS troubled
            FROM answers GROUP BY prompt_hash
        ), worst AS (
            SELECT *, wilson_low(troubled, n) AS low FROM prompts WHERE n >= {MIN_ANSWERS} AND troubled > 0
            ORDER BY low DESC, n DESC, prompt_hash LIMIT {LISTED}
        )
        SELECT w.*, max(g.generation_id) AS example
        FROM worst w
        JOIN answers a ON a.prompt_hash = w.prompt_hash AND a.troubled
        JOIN internal.answers g ON g.rowid = a.answer_row
        GROUP BY ALL ORDER BY low DESC, n DESC, w.prompt_hash
        """,
    )
    return [
        {
            "prompt_hash": prompt_hash,
            "served": n,
            "trouble": share_cell(troubled, n),
            "failed": share_cell(failed, n),
            "disliked": share_cell(disliked, rated),
            "generation_id": example,
        }
        for prompt_hash, n, failed, rated, disliked, troubled, _, example in rows
    ]


def watch_raters(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """How much of the explicit signals the busiest raters gave, and bursts that no person gives."""
    given = "FROM scoped.used WHERE kind <> 'implicit'"
    signals, known, raters = fetch_one(con, f"SELECT count(*), count(source_id), count(DISTINCT source_id) {given}")
    busiest = fetch_all(
        con,
        f"SELECT source_id, count(*) AS n {given} AND source_id IS NOT NULL GROUP BY 1 ORDER BY n DESC, 1 LIMIT 5",
    )
    bursts = fetch_all(
        con,
        f"SELECT source_id, ts_server_us // 60000000 * 60000000 AS minute, count(*) AS n {given} "
        f"AND source_id IS NOT NULL GROUP BY ALL HAVING n >= {BURST_SIGNALS} ORDER BY n DESC, minute, source_id",
    )
    return {
        "signals": signals,
        "unknown_rater": signals - known,
        "raters": raters,
        "largest_share": None if not known else round(busiest[0][1] / known, 6),
        "busiest": [{"source_id": rater, "signals": n, "share": round(n / known, 6)} for rater, n in busiest],
        "bursts": {
            "at_least": BURST_SIGNALS,
            "n": len(bursts),
            "signals": sum(row[2] for row in bursts),
            "largest": [{"source_id": rater, "minute_us": minute, "signals": n} for rater, minute, n in bursts[:5]],
        },
    }


def summarise_signals(con: duckdb.DuckDBPyConnection, seed: int) -> dict[str, Any]:
    """Signals by kind and name; the mean of each rating with its bootstrap interval; the most frequent labels."""
    names = fetch_all(con, "SELECT kind, name, count(*) AS n FROM scoped.used GROUP BY ALL ORDER BY n DESC, 1, 2")
    labels = fetch_all(
        con,
        "SELECT name, value_str, count(*) AS n FROM scoped.used WHERE kind = 'label' AND value_str IS NOT NULL "
        f"GROUP BY ALL ORDER BY n DESC, 1, 2 LIMIT {LISTED}",
    )
    ratings: dict[str, tuple[tuple[Any, ...], dict[float, int]]] = {}
    for name, lowest, highest, better, unit, value, n in fetch_all(
        con,
        "FROM (SELECT name, lowest, highest, better, unit, value_num, count(*) AS n FROM scoped.ratings GROUP BY ALL) "
        f"QUALIFY row_number() OVER (PARTITION BY name ORDER BY n DESC, value_num) <= {MAX_DISTINCT_RATINGS} "
        "ORDER BY name, value_num",
    ):
        ratings.setdefault(name, ((lowest, highest, better, unit), {}))[1][value] = n
    return {
        "by_name": [{"kind": kind, "name": name, "n": n} for kind, name, n in names],
        "labels": [{"name": name, "label": label, "n": n} for name, label, n in labels],
        "ratings": [_rating(name, contract, counts, seed) for name, (contract, counts) in ratings.items()],
    }


def _rating(name: str, contract: tuple[Any, ...], counts: dict[float, int], seed: int) -> dict[str, Any]:
    estimate = bootstrap_mean(counts, np.random.default_rng(seed))
    assert estimate is not None, "a rating without values is no group"
    lowest, highest, better, unit = contract
    n = sum(counts.values())
    return {
        "name": name,
        "n": n,
        "mean": round(estimate.value, 6),
        "low": round(estimate.low, 6),
        "high": round(estimate.high, 6),
        "small": n < SMALL_N,
        "lowest": lowest,
        "highest": highest,
        "better": better,
        "unit": unit,
    }
