"""The engine's own metrics on their way to Ray, through a buffer. Imports vllm when asked, as ``vllm_engine`` does."""

from typing import TYPE_CHECKING, Any

from deployments.generator.metric_buffer import MetricBuffer

if TYPE_CHECKING:
    from vllm.v1.metrics.ray_wrappers import RayPrometheusStatLogger


def buffered_stat_logger(buffer: MetricBuffer) -> "type[RayPrometheusStatLogger]":
    """vLLM's logger of statistics to Ray, gauges and counters through ``buffer``; for ``AsyncLLM``."""
    from vllm.v1.metrics import ray_wrappers

    class Gauge(ray_wrappers.RayGaugeWrapper):
        def set(self, value: float) -> None:
            buffer.set(_key(self), super().set, value)

    class Counter(ray_wrappers.RayCounterWrapper):
        def inc(self, value: float = 1.0) -> None:
            if value:
                buffer.add(_key(self), super().inc, value)

    class BufferedStatLogger(ray_wrappers.RayPrometheusStatLogger):
        _gauge_cls = Gauge
        _counter_cls = Counter

    return BufferedStatLogger


def _key(metric: Any) -> tuple[Any, ...]:
    # Some are labelled anew for each value, so that the object itself says nothing.
    return metric.metric, *metric._tags.values()
