"""Watches a canary beside the champion: a confidence sequence for the difference of two failure rates, and a verdict.

An ordinary interval that is looked at after every answer is wrong far more often than it says. A confidence sequence
covers the true difference at *all* times at once, so it may be looked at always and acted on at any moment.

How. With failures and passes of both arms, for a difference ``d`` of canary minus champion,

    E(d) = [ mean over a prior of the likelihood of (p, q) ] / [ max over p of the likelihood of (p, p + d) ]

If ``d`` is true, E(d) exceeds 1/alpha, ever, with a probability of at most alpha (Ville 1939). The bounds are where
E(d) reaches it. The method of mixtures is that of Robbins (1970), Annals of Mathematical Statistics 41:1397-1409;
mixtures over a maximum are the sequential universal inference of Wasserman, Ramdas and Balakrishnan (2020), PNAS
117:16880-16890, section 8. The priors are ours: any prior is valid, a good one is only faster. Which arm an answer goes
to may depend on the past; nothing is approximate, and nothing need be fixed in advance.

What it assumes: within an arm and a stage, an answer fails with the same probability, whatever came before. Answers of
one user are alike, and arms are sticky by user, so count one outcome a user (or conversation) where users send many.

Pure: numbers in, verdict out. The service counts and acts.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from graph.errors import InvalidRequest

Action = Literal["continue", "roll_back", "promote"]

_HARM = (0.15, 0.2, 0.25, 0.3)
"""Differences that the prior of the lower bound looks for: what must be found within 200 answers."""
_NO_HARM = (-0.2, -0.1, -0.05, -0.02, 0.0)
"""Differences that the prior of the upper bound looks for: a canary that is as good, or better."""
_RATES = tuple(1 - (1 - (place + 0.5) / 24) ** (1 / 3) for place in range(24))
"""Rates of the champion: middles of 24 equally likely parts of Beta(1, 3), for most services fail on few answers."""
_LOW_RATES = (0.0003, 0.001, 0.003)
"""Also for the upper bound, which grows sharp only by as many answers as a rare failure needs to show."""
_WIDE = 0.1
"""Weight of the prior Beta(1/2, 1/2) of both rates, which finds in time whatever the grid has no point for."""
_HALVINGS = 60
"""Of an interval no longer than 2: exact to the last digits of a double."""


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """What one arm answered.

    Raises:
        InvalidRequest: More failures than answers, or less than none.
    """

    answers: int
    failures: int

    def __post_init__(self) -> None:
        if not 0 <= self.failures <= self.answers:
            raise InvalidRequest(
                f"An arm cannot have {self.failures} failures of {self.answers} answers; count from 0 to all of them."
            )


@dataclass(frozen=True, slots=True)
class Stage:
    """Both arms over a time in which the canary's share was the same.

    Answers of different shares must not be added up: if the traffic changes too, one arm gets more of the harder
    questions (Simpson's paradox). Every stage has rates of its own; the difference is common.
    """

    champion: ArmCounts
    canary: ArmCounts


@dataclass(frozen=True, slots=True)
class Bounds:
    """The difference of failure rates, canary minus champion, from -1 to 1. Each bound holds for itself."""

    value: float | None
    """Most likely; None while an arm has no answers."""
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Signal:
    """One kind of failure, such as a validator's or a thumb down."""

    stages: Sequence[Stage]
    margin: float | None = 0.05
    """The canary may be promoted once its rate is shown to be less than this above the champion's. None: the signal
    is too rare to show that; it can roll back, and promotion does not wait for it."""


@dataclass(frozen=True, slots=True)
class CanaryRules:
    """When to act.

    Raises:
        InvalidRequest: An alpha is not between 0 and 1, or a number of answers is not positive.
    """

    alpha_roll_back: float = 0.05
    """Largest probability, over the whole canary and all signals together, to roll back one that is no worse."""
    alpha_promote: float = 0.05
    """Largest probability, over the whole canary, to promote one that is worse by the margin in some signal."""
    min_answers: int = 200
    """Of the canary, before it may be promoted."""
    max_answers: int | None = 10_000
    """Of the canary; one that is undecided by then is rolled back, for nothing was shown. None: wait for ever."""

    def __post_init__(self) -> None:
        for name in ("alpha_roll_back", "alpha_promote"):
            alpha = getattr(self, name)
            if not 0 < alpha < 1:
                raise InvalidRequest(f"{name} is {alpha}; it must be between 0 and 1, such as 0.05.", param=name)
        for name in ("min_answers", "max_answers"):
            answers = getattr(self, name)
            if answers is not None and answers < 1:
                raise InvalidRequest(f"{name} is {answers}; it must be at least 1.", param=name)


@dataclass(frozen=True, slots=True)
class CanaryVerdict:
    """What to do now, why, and the bounds by signal: each lower one at alpha_roll_back, upper at alpha_promote."""

    action: Action
    reasons: tuple[str, ...]
    bounds: Mapping[str, Bounds] = field(default_factory=dict)


def judge_canary(signals: Mapping[str, Signal], rules: CanaryRules | None = None) -> CanaryVerdict:
    """Decide from all that was counted so far; may be asked after every answer, or less often.

    - Roll back: in some signal the canary is worse, by any amount that is certain. alpha is shared out among them.
    - Promote: in every signal that has a margin the canary is surely worse by less than it. No sharing out: all must
      agree (Berger 1982, Technometrics 24:295-300).
    - Roll back too what is still undecided after ``max_answers``.

    Args:
        signals: By name; counts from the canary's beginning.
        rules: None: the defaults.

    Raises:
        InvalidRequest: No signal at all, or a margin that is not between 0 and 1.
    """
    rules = rules or CanaryRules()
    _check_signals(signals)
    bounds = {
        name: difference_bounds(signal.stages, rules.alpha_roll_back / len(signals), rules.alpha_promote)
        for name, signal in signals.items()
    }
    worse = [name for name, bound in bounds.items() if bound.low > 0]
    if worse:
        return CanaryVerdict("roll_back", tuple(_worse(name, bounds[name]) for name in worse), bounds)
    answers = max(_canary_answers(signal) for signal in signals.values())
    waiting = [
        f"{name}: the difference may still be {bounds[name].high:+.3f}; promotion needs less than {signal.margin:+.3f}"
        for name, signal in signals.items()
        if signal.margin is not None and bounds[name].high >= signal.margin
    ]
    if all(signal.margin is None for signal in signals.values()):
        waiting.append("no signal has a margin, so nothing can show that the canary is good enough")
    if answers < rules.min_answers:
        waiting.append(f"the canary gave {answers} answers; promotion needs {rules.min_answers}")
    if not waiting:
        return CanaryVerdict("promote", tuple(_no_worse(n, bounds[n], signals[n]) for n in signals), bounds)
    if rules.max_answers is not None and answers >= rules.max_answers:
        return CanaryVerdict("roll_back", (f"undecided after {answers} answers of the canary", *waiting), bounds)
    return CanaryVerdict("continue", tuple(waiting), bounds)


def difference_bounds(stages: Sequence[Stage], alpha_low: float = 0.05, alpha_high: float = 0.05) -> Bounds:
    """Return the difference of failure rates, canary minus champion, with bounds that hold at all times at once.

    Args:
        stages: All stages of the canary so far; order does not matter. None: nothing is known.
        alpha_low: Largest probability that the lower bound is *ever* above the truth.
        alpha_high: The same of the upper bound; together they make a 1 - alpha_low - alpha_high confidence sequence.
    """

    def fit(difference: float) -> float:
        return sum(_profile(stage, difference) for stage in stages)

    if not (sum(s.champion.answers for s in stages) and sum(s.canary.answers for s in stages)):
        return Bounds(None, -1.0, 1.0)
    peak = _difference(stages[0]) if len(stages) == 1 else _highest(fit)
    low = _crossing(fit, peak, -1.0, sum(_HARM_PRIOR.log_mean(stage) for stage in stages) + math.log(alpha_low))
    high = _crossing(fit, peak, 1.0, sum(_NO_HARM_PRIOR.log_mean(stage) for stage in stages) + math.log(alpha_high))
    return Bounds(peak, low, high)


class _Prior:
    """Pairs of rates (champion's, canary's) on a grid, equally likely; beside it each rate from Beta(1/2, 1/2)."""

    def __init__(self, rates: Sequence[float], differences: Sequence[float]) -> None:
        pairs = [(p, p + d) for p in rates for d in differences if 0 < p + d < 1]
        first, second = np.array(pairs).T
        self._logs = np.stack([np.log(first), np.log1p(-first), np.log(second), np.log1p(-second)])
        self._log_weight = math.log((1 - _WIDE) / len(pairs))

    def log_mean(self, stage: Stage) -> float:
        """Return the logarithm of the mean likelihood of what was counted."""
        return float(self.log_means(np.array([_cells(stage)], dtype=float))[0])

    def log_means(self, cells: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return it for many counts at once, of shape (n, 4): failures and passes of champion, then canary."""
        grid = cells @ self._logs + self._log_weight
        wide = np.array([[math.log(_WIDE) + _log_beta(a, b) + _log_beta(c, d)] for a, b, c, d in cells.tolist()])
        every = np.concatenate([grid, wide], axis=1)
        top = every.max(axis=1, keepdims=True)
        total: NDArray[np.float64] = top[:, 0] + np.log(np.exp(every - top).sum(axis=1))
        return total


def _log_beta(failures: float, passes: float) -> float:
    """The logarithm of the mean likelihood of one arm under Beta(1/2, 1/2); B(1/2, 1/2) is pi."""
    n = failures + passes
    return math.lgamma(failures + 0.5) + math.lgamma(passes + 0.5) - math.lgamma(n + 1) - math.log(math.pi)


_HARM_PRIOR = _Prior(_RATES, _HARM)
_NO_HARM_PRIOR = _Prior((*_LOW_RATES, *_RATES), _NO_HARM)


def _cells(stage: Stage) -> tuple[int, int, int, int]:
    champion, canary = stage.champion, stage.canary
    return champion.failures, champion.answers - champion.failures, canary.failures, canary.answers - canary.failures


def _profile(stage: Stage, difference: float) -> float:
    """The highest log-likelihood of two rates that differ by this much; concave in the difference."""
    a, b, c, d = _cells(stage)
    low, high = max(0.0, -difference), min(1.0, 1.0 - difference)
    for _ in range(_HALVINGS):
        p = (low + high) / 2
        q = p + difference
        if not (0 < p < 1 and 0 < q < 1):  # the interval has shrunk to an end
            break
        if a / p - b / (1 - p) + c / q - d / (1 - q) > 0:
            low = p
        else:
            high = p
    p = (low + high) / 2
    return _log_likelihood(a, b, p) + _log_likelihood(c, d, p + difference)


def _log_likelihood(failures: int, passes: int, rate: float) -> float:
    if (failures and rate <= 0) or (passes and rate >= 1):
        return -math.inf
    return (failures * math.log(rate) if failures else 0.0) + (passes * math.log1p(-rate) if passes else 0.0)


def _difference(stage: Stage) -> float:
    return stage.canary.failures / stage.canary.answers - stage.champion.failures / stage.champion.answers


def _highest(fit: Callable[[float], float]) -> float:
    """Where a concave function on [-1, 1] is highest: golden sections."""
    low, high, ratio = -1.0, 1.0, (math.sqrt(5) - 1) / 2
    for _ in range(_HALVINGS):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if fit(left) < fit(right):
            low = left
        else:
            high = right
    return (low + high) / 2


def _crossing(fit: Callable[[float], float], peak: float, end: float, level: float) -> float:
    """Where ``fit`` falls to ``level`` on its way from its peak to an end; the end if it does not.

    Halved from outside: what is returned is never inside the true bound.
    """
    if fit(end) > level:
        return end
    inside, outside = peak, end
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if fit(middle) > level:
            inside = middle
        else:
            outside = middle
    return outside


def _canary_answers(signal: Signal) -> int:
    return sum(stage.canary.answers for stage in signal.stages)


def _check_signals(signals: Mapping[str, Signal]) -> None:
    if not signals:
        raise InvalidRequest(
            "There is no signal to judge the canary by; give at least one, such as validator failures."
        )
    for name, signal in signals.items():
        if signal.margin is not None and not 0 < signal.margin < 1:
            raise InvalidRequest(
                f"The margin of {name!r} is {signal.margin}; it must be between 0 and 1, or None to never wait for it.",
                param="margin",
            )


def _worse(name: str, bound: Bounds) -> str:
    return f"{name}: the canary is worse by {bound.value:+.3f}, at least {bound.low:+.3f}"


def _no_worse(name: str, bound: Bounds, signal: Signal) -> str:
    allowed = "which promotion does not wait for" if signal.margin is None else f"below the margin {signal.margin:+.3f}"
    return f"{name}: the difference is at most {bound.high:+.3f}, {allowed}"
