"""What the log tells of itself, as Ray metrics: rates, waits, depth and lag. Observed once a group, never a row."""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from deployments.feedback.collection import CollectionRate
from deployments.feedback.writer import Commit, LogStats


class LogTelemetry:
    """Call `committed` from the writer's thread, `accepted` with rows on disk, `sample` now and then."""

    _SECONDS: ClassVar[list[float]] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5]

    def __init__(self) -> None:
        from ray.serve.metrics import Counter, Gauge, Histogram

        self._rows = Counter(
            "rheostat_feedback_rows_total",
            description="Rows on disk, by kind.",
            tag_keys=("kind",),
        )
        self._duplicates = Counter(
            "rheostat_feedback_duplicates_total",
            description="Repeats that were answered with the first acknowledgement.",
        )
        self._refused = Counter("rheostat_feedback_refused_total", description="Rows that were never accepted.")
        self._failed = Counter("rheostat_feedback_failed_total", description="Rows that a failed write took down.")
        self._sync = Histogram(
            "rheostat_feedback_fsync_seconds", description="One fdatasync.", boundaries=self._SECONDS
        )
        self._ack = Histogram(
            "rheostat_feedback_ack_seconds",
            description="From a row's arrival to its acknowledgement; the longest of each group.",
            boundaries=self._SECONDS,
        )
        self._depth = Gauge("rheostat_feedback_queue_rows", description="Rows that wait for the disk.")
        self._lag = Gauge("rheostat_feedback_segment_lag_seconds", description="Age of the oldest row not yet sealed.")
        self._rate = Gauge(
            "rheostat_feedback_collection_ratio", description="Share of the last 100,000 answers with feedback."
        )
        self._collection = CollectionRate()
        self._last = LogStats()

    def committed(self, commit: Commit) -> None:
        """One group is on disk."""
        self._sync.observe(commit.sync_s)
        self._ack.observe(commit.waited_s)

    def accepted(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """These rows are on disk, and were not before."""
        kinds: Tally[str] = Tally()
        for row in rows:
            kinds[row["kind"]] += 1
            self._collection.add(row)
        for kind, count in kinds.items():
            self._rows.inc(count, tags={"kind": kind})

    def sample(self, stats: LogStats, segment_age_s: float) -> None:
        """Brings gauges and counters up to ``stats``."""
        for counter, name in ((self._duplicates, "duplicates"), (self._refused, "refused"), (self._failed, "failed")):
            grown = getattr(stats, name) - getattr(self._last, name)
            if grown:
                counter.inc(grown)
        self._last = stats
        self._depth.set(stats.pending)
        self._lag.set(segment_age_s)
        if (rate := self._collection.rate) is not None:
            self._rate.set(rate)
