"""Decides what becomes of each piece of feedback: whether it counts, and with which value and text.

The rules, the same for every reader:

1. A retract takes back the event that it names; a retract itself cannot be taken back.
2. A supersede gives the event that it names a new value, a new text, or both; the names of supersedes are followed to
   the event that began it. Of several the latest counts, for value and text apart. A value of another type
   than the event's kind has is no value. A retracted supersede changes nothing.
3. Both act within one tenant, and on feedback about their own answer, only.
4. Of equal (tenant, answer, name, source type, rater) the latest by (server's clock, event_id) counts, among
   thumbs, ratings, labels, preferences and corrections. Comments and implicit signals all count.

`views` calls it; the SQL reads the view ``log`` and leaves the table ``internal.feedback``, with the row of the answer
in ``internal.answers``: null, it is not in the log of this tenant.
"""

import duckdb

from deployments.feedback.schema import FEEDBACK_KINDS

ACTING_KINDS = ("retract", "supersede")
"""They change other feedback and are no signals themselves."""
ONE_A_RATER = ("thumb", "rating", "label", "preference", "correction")
"""Of these a rater has one say on each answer and name."""

_READ = f"""
CREATE TABLE internal.feedback AS
    SELECT l.event_id, l.kind, CASE WHEN l.kind IN {ACTING_KINDS} THEN l.kind ELSE 'effective' END AS fate, l.tenant,
        l.generation_id, l.other_generation_id, coalesce(l.name, l.kind) AS name, l.value_bool, l.value_num,
        l.value_str, l.text, l.source_type, l.source_id, l.ts_server_us, l.supersedes, NULL::VARCHAR AS value_from,
        NULL::VARCHAR AS text_from, l.model, l.adapter, l.arm, l.controls_hash, l.tags, l.row_crc, a.rowid AS answer_row
    FROM log l LEFT JOIN internal.answers a ON a.generation_id = l.generation_id AND a.tenant = l.tenant
    WHERE l.kind IN {FEEDBACK_KINDS};

UPDATE internal.feedback SET fate = 'retracted'
    FROM (SELECT DISTINCT tenant, generation_id, supersedes FROM internal.feedback WHERE kind = 'retract') r
    WHERE feedback.event_id = r.supersedes AND feedback.tenant = r.tenant
        AND feedback.generation_id IS NOT DISTINCT FROM r.generation_id AND feedback.kind <> 'retract';

CREATE TEMP TABLE chain AS
    SELECT event_id, tenant, generation_id, supersedes AS target FROM internal.feedback
    WHERE kind = 'supersede' AND supersedes IS NOT NULL;
"""
_LINKED = """chain c JOIN chain next ON next.event_id = c.target AND next.tenant = c.tenant
    AND next.generation_id IS NOT DISTINCT FROM c.generation_id"""
_LEAP = f"""
CREATE TEMP TABLE leapt AS
    SELECT c.event_id, c.tenant, c.generation_id, coalesce(next.target, c.target) AS target
    FROM {_LINKED.replace("JOIN", "LEFT JOIN")};
DROP TABLE chain;
ALTER TABLE leapt RENAME TO chain;
"""
_REPLACE = f"""
CREATE TEMP TABLE replacements AS
    SELECT began.event_id AS began_id, began.kind, s.* EXCLUDE (kind)
    FROM chain c
    JOIN internal.feedback s ON s.event_id = c.event_id AND s.fate = 'supersede'
    JOIN internal.feedback began ON began.event_id = c.target AND began.tenant = c.tenant
        AND began.generation_id IS NOT DISTINCT FROM c.generation_id
    WHERE began.kind NOT IN {ACTING_KINDS};

UPDATE internal.feedback
    SET value_from = r.event_id, value_bool = r.value_bool, value_num = r.value_num, value_str = r.value_str
    FROM (
        FROM replacements WHERE CASE kind
            WHEN 'thumb' THEN value_bool IS NOT NULL
            WHEN 'rating' THEN value_num IS NOT NULL
            WHEN 'implicit' THEN value_num IS NOT NULL
            WHEN 'label' THEN value_str IS NOT NULL
            WHEN 'preference' THEN value_str IS NOT NULL
            ELSE false END
        QUALIFY row_number() OVER (PARTITION BY began_id ORDER BY ts_server_us DESC, event_id DESC) = 1
    ) r WHERE feedback.event_id = r.began_id;

UPDATE internal.feedback SET text_from = r.event_id, text = r.text
    FROM (
        FROM replacements WHERE text IS NOT NULL
        QUALIFY row_number() OVER (PARTITION BY began_id ORDER BY ts_server_us DESC, event_id DESC) = 1
    ) r WHERE feedback.event_id = r.began_id;

DROP TABLE chain;
DROP TABLE replacements;

UPDATE internal.feedback SET fate = 'replaced'
    FROM (
        SELECT event_id FROM internal.feedback WHERE fate = 'effective' AND kind IN {ONE_A_RATER}
        QUALIFY row_number() OVER (
            PARTITION BY tenant, generation_id, name, source_type, source_id
            ORDER BY ts_server_us DESC, event_id DESC) > 1
    ) r WHERE feedback.event_id = r.event_id;
"""


def decide_fates(con: duckdb.DuckDBPyConnection) -> None:
    """Make ``internal.feedback``: a row for each feedback row of ``log``, as it counts. Of answers nothing is read."""
    con.execute(_READ)
    for _ in range(_count(con, "SELECT count(*) FROM chain").bit_length()):
        # Each leap doubles how far every name reaches, so that a chain of n costs log n; a circle never ends and
        # reaches no event, so it changes nothing.
        if not _count(con, f"SELECT count(*) FROM {_LINKED}"):
            break
        con.execute(_LEAP)
    con.execute(_REPLACE)


def _count(con: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = con.execute(sql).fetchone()
    return int(row[0]) if row else 0
