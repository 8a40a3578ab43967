"""What the rollout tells of itself, as Ray metrics. Sampled every second: Ray forgets a gauge that is not set."""

from deployments.rollout.aliases import Change
from deployments.rollout.canary import CanaryReport
from deployments.rollout.mirror import Decision
from deployments.rollout.operations import champion_since_us
from deployments.rollout.watch import SIGNALS, sums

MAX_BY_CHARS = 32


class RolloutTelemetry:
    """Call `sample` now and then, `decided` with each decision that is new in the log."""

    def __init__(self) -> None:
        from ray.serve.metrics import Counter, Gauge

        self._version = Gauge("rheostat_rollout_version", description="Of the aliases; every change adds one.")
        self._age = Gauge(
            "rheostat_rollout_champion_age_seconds", description="Since the champion became it; 0: never changed."
        )
        self._share = Gauge("rheostat_rollout_canary_share", description="Of the traffic, from 0 to 1.")
        self._outcomes = Gauge(
            "rheostat_rollout_canary_outcomes",
            description="Counted since the canary began, by arm and signal; result is answers or failures.",
            tag_keys=("arm", "signal", "result"),  # type: ignore[arg-type]  # Ray says tuple[str]
        )
        self._low = Gauge(
            "rheostat_rollout_canary_difference_low",
            description="How much worse the canary is at least: above 0 it is rolled back.",
            tag_keys=("signal",),
        )
        self._troubled = Gauge("rheostat_rollout_troubled", description="1 while the canary cannot be watched.")
        self._pending = Gauge("rheostat_rollout_decisions_pending", description="Not yet in the feedback log.")
        self._decisions = Counter(
            "rheostat_rollout_decisions_total",
            description="Changes of the aliases and runs of the gate that were put into the log.",
            tag_keys=("action", "by"),  # type: ignore[arg-type]  # as above
        )

    def sample(self, report: CanaryReport, pending: int, now_us: int) -> None:
        """Bring the gauges up to this report."""
        aliases = report.aliases
        since_us = champion_since_us(aliases)
        self._version.set(aliases.version)
        self._age.set(0.0 if since_us is None else max(0.0, (now_us - since_us) / 1e6))
        self._share.set(aliases.share)
        self._troubled.set(float(report.problem is not None))
        self._pending.set(pending)
        totals = sums(report.counts)
        for signal in SIGNALS:
            total = totals.get(signal)
            for arm in ("champion", "canary"):
                counts = None if total is None else getattr(total, arm)
                for result in ("answers", "failures"):
                    tags = {"arm": arm, "signal": signal, "result": result}
                    self._outcomes.set(0 if counts is None else getattr(counts, result), tags=tags)
            low = -1.0 if report.verdict is None else report.verdict.bounds[signal].low
            self._low.set(low, tags={"signal": signal})

    def decided(self, decision: Decision) -> None:
        """One decision is in the log, and was not before."""
        what = decision.what
        action, by = (what.action, what.by) if isinstance(what, Change) else ("gate", "gate")
        self._decisions.inc(1, tags={"action": action, "by": by[:MAX_BY_CHARS] or "unknown"})
