"""The views of `views` cut down to one report's scope, and small helpers to query them.

Every section of the report reads the schema ``scoped``: the same view names, only the rows of the period and tenant.
"""

from collections.abc import Sequence
from typing import Any

import duckdb

from deployments.feedback.analysis.period import Scope

_THUMB_COLUMNS = (
    "event_id, generation_id, answer_row, tenant, name, source_id, ts_server_us, approved, passed, quality_score, "
    "outcome, failed_checks, model, adapter, arm, answer_format, language, prompt_template"
)


def open_scope(con: duckdb.DuckDBPyConnection, scope: Scope) -> None:
    """Make the schema ``scoped``; of an earlier report on this connection it is made anew.

    ``answers``: those that were served; ``rated``: whether a signal, of the scope or not, speaks of it, and
    ``rated_explicit``: whether one that is not implicit does. ``thumbs``, ``ratings``, ``feedback``: as in the views.
    ``used``: ``joined`` without the answer's columns.
    """
    con.execute("DROP SCHEMA IF EXISTS scoped CASCADE; CREATE SCHEMA scoped")
    where = f"WHERE {scope.predicate()}"
    con.execute(f"CREATE VIEW scoped.log AS SELECT * FROM main.log {where}")
    con.execute(f"CREATE VIEW scoped.feedback AS SELECT * FROM internal.feedback {where}")
    con.execute("CREATE VIEW scoped.used AS FROM scoped.feedback WHERE fate = 'effective' AND answer_row IS NOT NULL")
    con.execute(f"CREATE VIEW scoped.ratings AS SELECT * FROM internal.ratings {where}")
    con.execute(f"CREATE TABLE scoped.thumbs AS SELECT {_THUMB_COLUMNS} FROM internal.thumbs {where}")
    con.execute(
        f"""
        CREATE TABLE scoped.answers AS
            SELECT a.* EXCLUDE (generation_id, settings, served), a.rowid AS answer_row,
                r.answer_row IS NOT NULL AS rated, coalesce(r.explicit, false) AS rated_explicit
            FROM internal.answers a LEFT JOIN (
                SELECT answer_row, bool_or(kind <> 'implicit') AS explicit FROM internal.feedback
                WHERE fate = 'effective' AND answer_row IS NOT NULL GROUP BY answer_row
            ) r ON r.answer_row = a.rowid
            {where} AND a.served
        """
    )


def fetch_all(con: duckdb.DuckDBPyConnection, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Return all rows of a query."""
    return con.execute(sql, list(values)).fetchall()


def fetch_one(con: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    """Return the one row of an aggregate."""
    row = con.execute(sql).fetchone()
    assert row is not None, "an aggregate without groups has one row"
    return row
