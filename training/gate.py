"""The offline gate: may this challenger take the champion's place? A win rate, guards, a decision with its reasons.

Both answer the same held-out prompts through the running graph, with the same seeds; a judge compares each pair twice,
each answer shown first once, so that a judge who likes the first place decides nothing. Win rate is the evaluation that
respects preferences (https://arxiv.org/abs/2502.10505); the reward margin is no input: ranking accuracy follows it only
near the reference model (https://arxiv.org/abs/2405.19534).

A challenger passes if its win rate is surely above one half, and no guard may be worse than its margin. Guards are
non-inferiority tests: too few prompts, or none that were measured, do not pass.

Pure: outcomes in, decision out. Knows neither models nor the registry.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

from deployments.feedback.analysis.statistics import Estimate
from graph.errors import InvalidRequest

Verdict = Literal["challenger", "champion", "tie"]
_VERDICTS = ("challenger", "champion", "tie")
_HALVINGS = 60
"""Of an interval no longer than 2: exact to the last digits of a double."""


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """What was measured of one answer.

    Raises:
        InvalidRequest: A number that is negative or not finite, or a fit that is not from 0 to 1.
    """

    passed: bool
    """By the validators."""
    refused: bool
    words: int
    token_s: float | None = None
    """Seconds from asking to the whole answer, for each token of it; None: there was no answer. Not the whole latency:
    a longer answer is no slower model, and length has a guard of its own."""
    control_fit: float | None = None
    """From 0 to 1: how well the answer keeps to the controls asked for; None: none were."""

    def __post_init__(self) -> None:
        for name in ("words", "token_s"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise InvalidRequest(f"{name} is {value}; it must be a finite number from 0 on.", param=name)
        if self.control_fit is not None and not 0 <= self.control_fit <= 1:
            raise InvalidRequest(f"control_fit is {self.control_fit}; it must be from 0 to 1.", param="control_fit")


@dataclass(frozen=True, slots=True)
class PairedOutcome:
    """One held-out prompt: both answers, and who won in either order.

    Raises:
        InvalidRequest: A verdict that is none.
    """

    prompt_id: str
    champion: AnswerFacts
    challenger: AnswerFacts
    champion_first: Verdict
    """The winner when the judge read the champion's answer first."""
    challenger_first: Verdict

    def __post_init__(self) -> None:
        for name in ("champion_first", "challenger_first"):
            if getattr(self, name) not in _VERDICTS:
                raise InvalidRequest(
                    f"{name} of prompt {self.prompt_id!r} is {getattr(self, name)!r}; "
                    f"it must be one of: {', '.join(_VERDICTS)}.",
                    param=name,
                )

    @property
    def winner(self) -> Verdict:
        """Over both orders: opposite verdicts are a tie, and a win beside a tie is a win."""
        verdicts = {self.champion_first, self.challenger_first} - {"tie"}
        return verdicts.pop() if len(verdicts) == 1 else "tie"


@dataclass(frozen=True, slots=True)
class GateRules:
    """What the gate asks for. A margin of None switches its guard off.

    Raises:
        InvalidRequest: A value out of its range.
    """

    min_prompts: int = 60
    """For the win rate, and for each guard. With fewer than 52 a margin of 5 points cannot be shown at all, not even
    by answers that never differ; 200 and more are of use."""
    confidence: float = 0.95
    """Of the win rate's two-sided interval: a challenger that is no better passes with half of the rest at most."""
    guard_confidence: float = 0.95
    """Of each guard's one-sided bound: the share of challengers worse by just the margin that are stopped."""
    pass_rate_margin: float | None = 0.05
    refusal_margin: float | None = 0.05
    control_fit_margin: float | None = 0.05
    """So much lower, or higher for refusals, the rate or mean may be. The smaller, the more prompts are needed: with
    200 prompts of which 10% differ, a bound lies about 4 points beside the estimate, and two equals pass in 70% of
    cases; of which 2% differ, in 99%."""
    length_margin: float | None = 0.5
    """Answers may be up to 1 + this times as long, or as short: length is the easiest way to please a judge."""
    latency_margin: float | None = 0.25
    """A token may take up to 1 + this times as long (geometric mean, of prompts that both answered)."""

    def __post_init__(self) -> None:
        if self.min_prompts < 10:
            raise InvalidRequest(f"min_prompts is {self.min_prompts}; it must be at least 10.", param="min_prompts")
        for name in ("confidence", "guard_confidence"):
            if not 0.5 < getattr(self, name) < 1:
                raise InvalidRequest(f"{name} is {getattr(self, name)}; it must be between 0.5 and 1.", param=name)
        for name in ("pass_rate_margin", "refusal_margin", "control_fit_margin", "length_margin", "latency_margin"):
            margin = getattr(self, name)
            if margin is not None and not 0 < margin < math.inf:
                raise InvalidRequest(f"{name} is {margin}; it must be above 0, or None for no guard.", param=name)


@dataclass(frozen=True, slots=True)
class GuardResult:
    """One guard. Differences and ratios are challenger against champion."""

    name: str
    passed: bool
    prompts: int
    """That it was measured on."""
    estimate: Estimate | None
    """With its interval, whose each end is a one-sided bound at guard_confidence; None: too few prompts."""
    allowed_low: float | None
    allowed_high: float | None
    """The interval must lie between them; None: no limit on that side."""


@dataclass(frozen=True, slots=True)
class GateDecision:
    """Whether the challenger may be promoted; ``reasons`` says why not, or that all was met."""

    passed: bool
    reasons: tuple[str, ...]
    prompts: int
    wins: int
    losses: int
    win_rate: Estimate | None
    """Ties count half. None without prompts."""
    sign_test_p: float
    """One-sided and exact: how likely so many wins of the decided prompts are if both are equally good."""
    order_agreement: float | None
    """Share of prompts with the same verdict in both orders: a judge near 1/3 is guessing."""
    guards: tuple[GuardResult, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as it comes back from JSON, for a card or an event."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        return plain


def decide(outcomes: Sequence[PairedOutcome], rules: GateRules | None = None) -> GateDecision:
    """Judge a challenger by held-out prompts.

    Args:
        outcomes: One a prompt; order does not matter.
        rules: None: the defaults.

    Raises:
        InvalidRequest: A prompt comes twice: its outcomes are not independent, and intervals would be too short.
    """
    rules = rules or GateRules()
    _check_distinct(outcomes)
    n = len(outcomes)
    wins = sum(outcome.winner == "challenger" for outcome in outcomes)
    losses = sum(outcome.winner == "champion" for outcome in outcomes)
    agreeing = sum(outcome.champion_first == outcome.challenger_first for outcome in outcomes)
    rate = win_rate(wins, losses, n, rules.confidence)
    p = sign_test(wins, losses)
    guards = tuple(_guards(outcomes, rules))
    reasons = [*_win_faults(n, rate, p, rules), *(_guard_fault(guard, rules) for guard in guards if not guard.passed)]
    passed = not reasons
    if passed:
        assert rate is not None
        reasons = [f"win rate {rate.value:.3f}, surely above {rate.low:.3f}; all {len(guards)} guards hold"]
    agreement = agreeing / n if n else None
    return GateDecision(passed, tuple(reasons), n, wins, losses, rate, p, agreement, guards)


def win_rate(wins: int, losses: int, n: int, confidence: float = 0.95) -> Estimate | None:
    """Return the share of wins, ties counting half, with its two-sided interval; None without prompts.

    It is (1 + d) / 2 with d the difference of the shares of wins and losses, which are paired as in McNemar's table.
    """
    difference = paired_difference(wins, losses, n, _quantile((1 + confidence) / 2))
    if difference is None:
        return None
    return Estimate(*((1 + each) / 2 for each in (difference.value, difference.low, difference.high)))


def paired_difference(gained: int, lost: int, n: int, z: float) -> Estimate | None:
    """Return (gained - lost) / n with its interval; None without pairs.

    The score interval of Tango (1998), Statistics in Medicine 17:891-908, Wilson's for paired data: unlike his it gains
    from ties, and at no difference it is McNemar's test. Not empty where nothing differs.

    Args:
        gained: Pairs of which only the second has the property.
        lost: Pairs of which only the first has it.
        n: All pairs.
        z: Normal quantile, 1.96 for a two-sided 95%.
    """
    if n <= 0:
        return None
    return Estimate((gained - lost) / n, _score_bound(gained, lost, n, z), -_score_bound(lost, gained, n, z))


def _score_bound(gained: int, lost: int, n: int, z: float) -> float:
    """The lowest difference that the score test does not reject; halved from outside."""
    outside, inside = -1.0, (gained - lost) / n
    for _ in range(_HALVINGS):
        difference = (outside + inside) / 2
        # The likeliest share of lost pairs if this is the difference: the root of a quadratic equation.
        linear = (2 * n - gained + lost) * difference - gained - lost
        constant = -lost * difference * (1 - difference)
        share = (math.sqrt(max(linear * linear - 8 * n * constant, 0.0)) - linear) / (4 * n)
        variance = max(n * (2 * share + difference * (1 - difference)), 0.0)
        if gained - lost - n * difference > z * math.sqrt(variance):
            outside = difference
        else:
            inside = difference
    return outside


def sign_test(wins: int, losses: int) -> float:
    """Return the exact one-sided p value of at least so many wins among the decided, each won with probability 1/2.

    Ties are left out, as in McNemar's exact test (Dixon and Mood 1946, JASA 41:557-566); 1 if nothing was decided.
    """
    decided = wins + losses
    term = total = math.comb(decided, wins)
    for k in range(wins, decided):
        term = term * (decided - k) // (k + 1)
        total += term
    return total / (1 << decided)


def mean_difference(values: Sequence[float], level: float) -> Estimate | None:
    """Return the mean with its Student t interval; None of fewer than two values.

    Args:
        values: Paired differences.
        level: One-sided level of each end, such as 0.95.
    """
    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = _student_quantile(level, n - 1) * spread / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half)


def _guards(outcomes: Sequence[PairedOutcome], rules: GateRules) -> list[GuardResult]:
    fits = [
        outcome.challenger.control_fit - outcome.champion.control_fit
        for outcome in outcomes
        if outcome.challenger.control_fit is not None and outcome.champion.control_fit is not None
    ]
    guards = []
    if (margin := rules.pass_rate_margin) is not None:
        guards.append(_rate_guard("pass_rate", outcomes, lambda facts: facts.passed, rules, low=-margin))
    if (margin := rules.refusal_margin) is not None:
        guards.append(_rate_guard("refusals", outcomes, lambda facts: facts.refused, rules, high=margin))
    if (margin := rules.control_fit_margin) is not None:
        guards.append(_guard("control_fit", len(fits), mean_difference(fits, rules.guard_confidence), rules, -margin))
    if (margin := rules.length_margin) is not None:
        # One word more on both sides: an empty answer has a length too.
        estimate = _ratio([(outcome.champion.words + 1, outcome.challenger.words + 1) for outcome in outcomes], rules)
        guards.append(_guard("length", len(outcomes), estimate, rules, 1 / (1 + margin), 1 + margin))
    if (margin := rules.latency_margin) is not None:
        # A microsecond more on both sides, below what is worth measuring: the logarithm of 0 does not exist.
        times = [
            (outcome.champion.token_s + 1e-6, outcome.challenger.token_s + 1e-6)
            for outcome in outcomes
            if outcome.champion.token_s is not None and outcome.challenger.token_s is not None
        ]
        guards.append(_guard("latency", len(times), _ratio(times, rules), rules, None, 1 + margin))
    return guards


def _rate_guard(
    name: str,
    outcomes: Sequence[PairedOutcome],
    has: Callable[[AnswerFacts], bool],
    rules: GateRules,
    low: float | None = None,
    high: float | None = None,
) -> GuardResult:
    gained = sum(has(outcome.challenger) and not has(outcome.champion) for outcome in outcomes)
    lost = sum(has(outcome.champion) and not has(outcome.challenger) for outcome in outcomes)
    estimate = paired_difference(gained, lost, len(outcomes), _quantile(rules.guard_confidence))
    return _guard(name, len(outcomes), estimate, rules, low, high)


def _ratio(pairs: Sequence[tuple[float, float]], rules: GateRules) -> Estimate | None:
    """The ratio of geometric means, challenger over champion."""
    mean = mean_difference([math.log(challenger / champion) for champion, challenger in pairs], rules.guard_confidence)
    return None if mean is None else Estimate(math.exp(mean.value), math.exp(mean.low), math.exp(mean.high))


def _guard(
    name: str,
    prompts: int,
    estimate: Estimate | None,
    rules: GateRules,
    low: float | None = None,
    high: float | None = None,
) -> GuardResult:
    estimate = estimate if prompts >= rules.min_prompts else None
    # Two one-sided tests where both ends are limited: Schuirmann (1987), J. Pharmacokinet. Biopharm. 15:657-680.
    passed = estimate is not None and (low is None or estimate.low > low) and (high is None or estimate.high < high)
    return GuardResult(name, passed, prompts, estimate, low, high)


def _win_faults(n: int, rate: Estimate | None, p: float, rules: GateRules) -> list[str]:
    if rate is None or n < rules.min_prompts:
        return [f"{n} held-out prompts; the win rate needs at least {rules.min_prompts}"]
    # Both: the interval is what people read, the exact test holds for any number of prompts and ties.
    if rate.low > 0.5 and p <= (1 - rules.confidence) / 2:
        return []
    return [
        f"win rate {rate.value:.3f} may be as low as {rate.low:.3f} (sign test p = {p:.3f}); "
        f"it must be surely above 0.5: more prompts, or a better challenger"
    ]


def _guard_fault(guard: GuardResult, rules: GateRules) -> str:
    if guard.estimate is None:
        return f"{guard.name}: measured on {guard.prompts} prompts; it needs at least {rules.min_prompts}"
    limits = [f"above {guard.allowed_low:.3f}"] if guard.allowed_low is not None else []
    limits += [f"below {guard.allowed_high:.3f}"] if guard.allowed_high is not None else []
    estimate = guard.estimate
    return (
        f"{guard.name}: {estimate.value:.3f}, from {estimate.low:.3f} to {estimate.high:.3f}; "
        f"all of it must be {' and '.join(limits)}"
    )


def _check_distinct(outcomes: Sequence[PairedOutcome]) -> None:
    seen: set[str] = set()
    for outcome in outcomes:
        if outcome.prompt_id in seen:
            raise InvalidRequest(
                f"The held-out prompt {outcome.prompt_id!r} comes twice; give one outcome a prompt.", param="prompt_id"
            )
        seen.add(outcome.prompt_id)


def _quantile(level: float) -> float:
    return NormalDist().inv_cdf(level)


def _student_quantile(level: float, degrees: int) -> float:
    """Student's t quantile by its expansion in 1/degrees: Abramowitz and Stegun (1964), 26.7.5.

    Off by less than 2e-3 from five degrees on for levels up to 0.99; fewer never decide.
    """
    x = _quantile(level)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / float(degrees) ** (power + 1) for power, term in enumerate(terms))
