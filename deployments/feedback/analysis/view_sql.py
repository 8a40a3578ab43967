"""The SQL of the views. `views` runs it, in this order, over ``internal.rows``: every row of a snapshot once.

In the schema ``internal`` is what is kept in memory for many queries; whoever writes SQL reads the schema ``main``.
"""

from deployments.feedback.analysis.statistics import Z95

GENERATION_COLUMNS = (
    "tenant, ts_server_us, model, adapter, arm, controls_hash, outcome, quality_score, failed_checks, answer_format, "
    "language, settings, prompt_template, prompt_hash, prompt, answer, controls, quality, timings, versions, tags, "
    "extra, row_crc"
)
SAMPLED_COLUMNS = "event_id, tenant, ts_server_us, answer, timings"
ERASED_AND_UNDELIVERED = """
CREATE TABLE internal.said_by_service AS
    SELECT kind, name, event_id, generation_id, supersedes FROM internal.rows
    WHERE kind IN ('tombstone', 'undelivered');

-- The same rule as erasure.Erasures.covers. A tombstone stays: it is all that is left to tell of an erasure.
CREATE TABLE internal.erased AS
    WITH tombstones AS (
        SELECT DISTINCT supersedes AS id, coalesce(name, '') = 'generation' AS of_generation
        FROM internal.said_by_service WHERE kind = 'tombstone' AND supersedes IS NOT NULL
    )
    SELECT event_id FROM internal.rows r WHERE r.kind <> 'tombstone' AND (
        r.event_id IN (SELECT id FROM tombstones)
        OR coalesce(r.generation_id IN (SELECT id FROM tombstones WHERE of_generation), false)
        OR coalesce(r.other_generation_id IN (SELECT id FROM tombstones WHERE of_generation), false)
    );

CREATE TABLE internal.undelivered AS
    SELECT DISTINCT generation_id FROM internal.said_by_service ANTI JOIN internal.erased USING (event_id)
    WHERE kind = 'undelivered' AND generation_id IS NOT NULL;
"""
LOG_AND_GENERATIONS = """
CREATE VIEW log AS SELECT * FROM internal.rows WHERE {not_erased};

-- A generation's event_id is its generation_id.
CREATE VIEW generations AS
    SELECT event_id AS generation_id, {columns}, {served} AS served,
        CASE
            WHEN outcome IN ('degraded', 'blocked') THEN false
            -- What failed was mended: it is not in the answer that was delivered.
            WHEN outcome IN ('fixed', 'retried') THEN true
            WHEN outcome = 'pass' THEN CASE
                -- A CASE, not AND: only there is the order fixed, and bad JSON would end the query.
                WHEN failed_checks IS NULL OR failed_checks = '[]' THEN true
                WHEN json_valid(failed_checks) THEN coalesce(json_array_length(failed_checks), 0) = 0
                ELSE true
            END
        END AS passed
    FROM log WHERE kind = 'generation';
"""
CODED_COLUMNS = (
    "tenant",
    "model",
    "adapter",
    "arm",
    "outcome",
    "failed_checks",
    "answer_format",
    "language",
    "prompt_template",
)
"""Of answers, texts of which there are few: kept as ENUM, they need a tenth of the memory and group at once."""
KEPT_ANSWERS = """
-- Read by every section of the report, so it is kept in memory; texts are not in it.
CREATE TABLE internal.answers AS
    SELECT generation_id, {coded}, settings, prompt_hash, ts_server_us, quality_score, served, passed
    FROM generations;
"""
FEEDBACK_AND_SIGNALS = """
CREATE VIEW feedback AS
    SELECT * EXCLUDE (value_from, text_from, answer_row),
        coalesce(value_from, event_id) AS value_event_id, coalesce(text_from, event_id) AS text_event_id
    FROM internal.feedback;

CREATE VIEW signals AS SELECT * EXCLUDE (fate, supersedes) FROM feedback WHERE fate = 'effective';

CREATE VIEW joined AS
    SELECT s.* EXCLUDE (model, adapter, arm, controls_hash),
        g.* EXCLUDE (generation_id, tenant, ts_server_us, tags, row_crc),
        g.ts_server_us AS generation_ts_server_us
    FROM generations g JOIN signals s ON s.generation_id = g.generation_id AND s.tenant = g.tenant;

CREATE VIEW orphans AS
    SELECT s.* FROM signals s
    ANTI JOIN generations g ON g.generation_id = s.generation_id AND g.tenant = s.tenant;

CREATE VIEW internal.joined AS
    SELECT s.* EXCLUDE (model, adapter, arm, value_from, text_from),
        a.* EXCLUDE (generation_id, tenant, ts_server_us), a.ts_server_us AS generation_ts_server_us
    FROM internal.feedback s JOIN internal.answers a ON a.rowid = s.answer_row WHERE s.fate = 'effective';
"""
THUMBS_AND_RATINGS = """
CREATE VIEW {schema}.thumbs AS
    SELECT j.*, j.value_bool <> coalesce(c.better = 'lower', false) AS approved
    FROM {schema}.joined j LEFT JOIN main.contracts c ON c.name = j.name AND c.kind = 'thumb'
    WHERE j.kind = 'thumb' AND coalesce(j.source_type, 'human') = 'human' AND j.value_bool IS NOT NULL;

CREATE VIEW {schema}.ratings AS
    SELECT j.*, c.lowest, c.highest, c.better, c.unit
    FROM {schema}.joined j LEFT JOIN main.contracts c ON c.name = j.name AND c.kind = 'rating'
    WHERE j.kind = 'rating' AND coalesce(j.source_type, 'human') = 'human' AND j.value_num IS NOT NULL;
"""
"""In main over all columns, in internal over those that are kept in memory."""
_Z = Z95
_CENTRE = f"((k / n) + {_Z**2 / 2} / n) / (1 + {_Z**2} / n)"
_HALF = f"{_Z} / (1 + {_Z**2} / n) * sqrt((k / n) * (1 - k / n) / n + {_Z**2 / 4} / n / n)"
MACROS = f"""
CREATE MACRO wilson_low(k, n) AS CASE WHEN n > 0 THEN CASE WHEN k = 0 THEN 0.0 ELSE {_CENTRE} - {_HALF} END END;
CREATE MACRO wilson_high(k, n) AS CASE WHEN n > 0 THEN CASE WHEN k = n THEN 1.0 ELSE {_CENTRE} + {_HALF} END END;
"""
"""`statistics.wilson` for queries: ``wilson_low(count(*) FILTER (approved), count(*))``."""
