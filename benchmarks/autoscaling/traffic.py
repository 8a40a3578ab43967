"""A made-up day of requests with the shape of a real one: night, two humps of office hours, an evening; the rate's own
unrest from minute to minute; and bursts.

The unrest is that of a real service: in the hour that Azure published of its chat traffic (AzureLLMInferenceTrace_conv,
November 2023, https://github.com/Azure/AzurePublicDataset) the rate of 10 s has a coefficient of variation of 0.23
beyond what Poisson arrivals have, that of 5 min still 0.18: an Ornstein-Uhlenbeck process of 0.2 with a time constant
of 4 min. The spread of prompts and answers is that trace's too. Arrivals are Poisson at the rate of the second. The
same seed gives the same day.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DAY_S = 86_400
_HOURS = (0, 3, 5, 7, 9, 10.5, 12.5, 13.5, 15.5, 18, 20.5, 22.5, 24)
_SHAPE = (0.16, 0.05, 0.05, 0.25, 0.85, 1.0, 0.80, 0.92, 0.97, 0.55, 0.62, 0.35, 0.16)
"""Share of the highest rate by hour of the day, between which the rate changes evenly."""
_UNREST_STEP_S = 10


@dataclass(frozen=True, slots=True)
class DayShape:
    """How busy a day is. Ranges are drawn from evenly."""

    peak_per_s: float = 2.5
    """Requests a second at the busiest hour, without bursts."""
    unrest: float = 0.2
    """Standard deviation of the rate's logarithm."""
    unrest_s: float = 240.0
    """Its time constant."""
    bursts: int = 8
    burst_size: tuple[float, float] = (0.3, 1.0)
    """How much of the rate of that hour a burst adds."""
    burst_rise_s: tuple[float, float] = (30.0, 180.0)
    burst_hold_s: tuple[float, float] = (60.0, 600.0)
    prompt_tokens: tuple[float, float] = (400.0, 0.99)
    """Median, and standard deviation of the logarithm."""
    output_tokens: tuple[float, float] = (350.0, 0.86)
    max_output_tokens: int = 4096
    squeeze: float = 1.0
    """The day passes so many times as fast; what is given in seconds here does not."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the day."""

    at_s: float
    prompt_tokens: int
    output_tokens: int


def day_of_requests(seed: int, shape: DayShape) -> list[Request]:
    """The day of ``seed``, in the order of arrival."""
    rng = np.random.default_rng(seed)
    rates = rates_by_second(rng, shape)
    counts = rng.poisson(rates)
    at_s = np.sort(np.repeat(np.arange(rates.size), counts) + rng.random(counts.sum()))
    prompts = _lengths(rng, shape.prompt_tokens, at_s.size)
    outputs = np.minimum(_lengths(rng, shape.output_tokens, at_s.size), shape.max_output_tokens)
    return [Request(*row) for row in zip(at_s.tolist(), prompts.tolist(), outputs.tolist(), strict=True)]


def rates_by_second(rng: np.random.Generator, shape: DayShape) -> npt.NDArray[np.float64]:
    """Requests a second, of each second of the day."""
    seconds = np.arange(int(DAY_S / shape.squeeze))
    rates = shape.peak_per_s * np.interp(seconds * shape.squeeze / 3600, _HOURS, _SHAPE)
    rates *= np.exp(_unrest(rng, seconds, shape) - shape.unrest**2 / 2)
    extra = np.zeros(seconds.size)
    for _ in range(shape.bursts):
        begin = rng.uniform(0, seconds.size)
        rise, hold = rng.uniform(*shape.burst_rise_s), rng.uniform(*shape.burst_hold_s)
        size = rng.uniform(*shape.burst_size)
        # Rises evenly, stays, and goes as it came.
        form = np.interp(seconds, (begin, begin + rise, begin + rise + hold, begin + 2 * rise + hold), (0, 1, 1, 0))
        extra += size * form * rates
    return rates + extra


def _unrest(rng: np.random.Generator, seconds: npt.NDArray[np.int64], shape: DayShape) -> npt.NDArray[np.float64]:
    steps = seconds.size // _UNREST_STEP_S + 2
    kept = np.exp(-_UNREST_STEP_S / shape.unrest_s)
    shocks = rng.standard_normal(steps) * shape.unrest * np.sqrt(1 - kept**2)
    values = [0.0]
    for shock in shocks[1:].tolist():
        values.append(kept * values[-1] + shock)
    return np.interp(seconds, np.arange(steps) * _UNREST_STEP_S, values)


def _lengths(rng: np.random.Generator, of: tuple[float, float], count: int) -> npt.NDArray[np.int64]:
    median, spread = of
    return np.maximum(1, rng.lognormal(np.log(median), spread, count).astype(np.int64))
