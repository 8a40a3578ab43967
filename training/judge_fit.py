"""Learns from held-out feedback which of two answers people like, or finds that it does not say so. Pure.

Thumbs are rows of a ridge-regularised logistic regression with an intercept; corrections and preferences are
differences of two rows without one (Bradley and Terry 1952, Biometrika 39:324-345); both are in one likelihood, so that
one set of weights explains both.

The judge must earn its place. Prompt groups are dealt into folds; each vote is scored by a fit that saw none of its
group. From these scores comes the AUC: how often a liked answer scores above a disliked one, and the better of a pair
above the worse. It must be surely above one half in both senses: the lower end of its bootstrap interval (groups drawn
with replacement), and a permutation test in which the whole procedure is done again on shuffled labels, which holds its
level exactly however few votes and however many features there are (Phipson and Smyth 2010, Stat. Appl. Genet. Mol.
Biol. 9:39). Where feedback says nothing, there is no judge, and the gate does not pass.

Shapes: n votes, d features, k = d + 1 columns with the intercept, P labelings at once, B resamples.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deployments.feedback.analysis.statistics import Estimate
from graph.errors import InvalidRequest
from training.answer_features import FEATURES, answer_features
from training.judges import FeedbackJudge
from training.regression import Floats, auc_of, fit_logistic, limit_weights, standardise


@dataclass(frozen=True, slots=True)
class Vote:
    """What one person said of one answer, or of two."""

    event_id: str
    rater: str | None
    """None: does not say; all such are one rater."""
    group: str
    """Prompts that belong together, such as the turns of one conversation: never in two folds."""
    prompt: str
    """The last user turn."""
    answer: str
    """The one that was judged; of a pair the better one."""
    other: str | None = None
    """The worse one of a pair; None: a thumb."""
    liked: bool = True
    """Of a thumb. A pair's better answer is always liked."""


@dataclass(frozen=True, slots=True)
class JudgeRules:
    """What a judge must show, and how it is fitted.

    Raises:
        InvalidRequest: A value out of its range.
    """

    min_votes: int = 20
    max_votes: int = 2000
    """More add little and cost the permutations time; which of them stay is decided by a hash."""
    confidence: float = 0.95
    """Of the AUC's two-sided interval, whose lower end must be above one half."""
    p_value: float = 0.01
    """The most that the permutation test may say: the share of judges that shuffled labels would give."""
    permutations: int = 499
    resamples: int = 1000
    folds: int = 5
    ridge: float = float(len(FEATURES))
    """Precision of each weight's prior. One for each feature: the score of an average answer then has a prior
    standard deviation of 1, whatever the number of features, and nothing is tuned on the few votes that there are."""
    rater_share: float = 0.05
    """The most of all weight that one rater may have; of few raters each may have twice an equal share."""
    tie_margin: float = 0.25
    """Answers whose scores are closer than this are a tie; in standard deviations of the fitted answers' scores."""

    def __post_init__(self) -> None:
        for name, least in (("min_votes", 10), ("max_votes", 100), ("resamples", 100), ("folds", 2)):
            if getattr(self, name) < least:
                raise InvalidRequest(f"{name} is {getattr(self, name)}; it must be {least} or more.", param=name)
        for name in ("p_value", "rater_share"):
            if not 0 < getattr(self, name) <= 1:
                raise InvalidRequest(f"{name} is {getattr(self, name)}; it must be above 0, at most 1.", param=name)
        if not 0.5 < self.confidence < 1:
            raise InvalidRequest(f"confidence is {self.confidence}; it must be between 0.5 and 1.", param="confidence")
        if self.permutations + 1 < 1 / self.p_value:
            raise InvalidRequest(
                f"permutations is {self.permutations}; a p value of {self.p_value} takes at least "
                f"{math.ceil(1 / self.p_value) - 1}.",
                param="permutations",
            )
        for name in ("ridge", "tie_margin"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidRequest(f"{name} is {getattr(self, name)}; it must be above 0.", param=name)


@dataclass(frozen=True, slots=True)
class LearnedWeight:
    """One feature and what it is worth."""

    feature: str
    words: str
    """Such as "people like answers that end with a question: +1.9"."""
    weight: float
    """Change of the log-odds of being liked for one standard deviation more of it."""


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """Whether the held-out feedback says what people like, and what."""

    accepted: bool
    reason: str
    """Why not, or how surely."""
    votes: int
    """One a rater and prompt group."""
    thumbs: int
    pairs: int
    raters: int
    groups: int
    auc: Estimate | None
    """Out of fold, with its interval; None: too few votes."""
    p_value: float | None
    """Of the permutation test; None: it was not needed, for the interval said no already."""
    weights: tuple[LearnedWeight, ...]
    """All of them, the largest first; empty: not fitted."""

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "weights": [asdict(weight) for weight in self.weights]}


def fit_judge(
    votes: Sequence[Vote], rules: JudgeRules | None = None, seed: int = 0
) -> tuple[FeedbackJudge | None, JudgeReport]:
    """Learn what people like, or find that these votes do not say it; then there is no judge. Blocks for seconds.

    Equal votes in any order, rules and seed give the same judge.

    Args:
        votes: Held-out ones only: of what a model was trained on it would say what the model learned.
        rules: None: the defaults.
        seed: Of folds, bootstrap and permutations.
    """
    rules = rules or JudgeRules()
    kept = one_vote_each(votes, rules.max_votes)
    if len(kept) < rules.min_votes:
        return None, _report(
            kept,
            f"the held-out feedback has {len(kept)} votes, one a rater and prompt; a judge needs {rules.min_votes}: "
            "collect more feedback, or hold more of it out with --eval-share",
        )
    groups = len({vote.group for vote in kept})
    if groups < rules.folds:
        return None, _report(
            kept,
            f"the {len(kept)} held-out votes are on {groups} different prompts; a judge needs {rules.folds}, for it is "
            "tried on prompts that it did not learn from: collect feedback on more prompts",
        )
    design = _Design(kept, rules, seed)
    if not design.can_compare:
        only = "liked" if kept[0].liked else "disliked"
        return None, _report(
            kept, f"all {len(kept)} held-out answers are {only}; a judge learns from the difference: collect both"
        )
    scores = design.out_of_fold(design.labels[None])
    auc = design.interval(scores[0], rules)
    sure = auc.low > 0.5
    # The costly half only where the cheap one did not say no already: refusing more never raises the level.
    p = design.permutation_p(auc.value, rules.permutations) if sure else None
    judge, weights = design.fit_all(rules)
    told = f"AUC {auc.value:.2f} ({auc.low:.2f}..{auc.high:.2f}) on {len(kept)} rows"
    if not sure or p is None:
        reason = f"the held-out feedback does not say what people like: {told}; the interval must lie above 0.5"
    elif p > rules.p_value:
        reason = (
            f"the held-out feedback does not say what people like: {told}, and shuffled labels do as well in "
            f"{100 * p:.1f}% of cases; at most {100 * rules.p_value:g}% are allowed"
        )
    else:
        reason = f"{told}, p = {p:.3f}"
        return judge, _report(kept, reason, True, auc, p, weights)
    return None, _report(kept, reason, False, auc, p, weights)


def one_vote_each(votes: Sequence[Vote], most: int) -> list[Vote]:
    """Return one vote a rater and group, in a fixed order; a pair before a thumb, for it compares like with like."""
    ordered = sorted(votes, key=lambda vote: (vote.other is None, hashlib.sha256(vote.event_id.encode()).digest()))
    found: dict[tuple[str | None, str], Vote] = {}
    for vote in ordered:
        found.setdefault((vote.rater, vote.group), vote)
    return sorted(found.values(), key=lambda vote: hashlib.sha256(vote.event_id.encode()).digest())[:most]


class _Design:
    """The votes as numbers. Labels: 1 liked or the first of the pair better, 0 the opposite."""

    def __init__(self, votes: Sequence[Vote], rules: JudgeRules, seed: int) -> None:
        self._rules = rules
        self._rng = np.random.default_rng(seed)
        self._first = np.array([answer_features(vote.answer, vote.prompt) for vote in votes])
        self._other = np.array([answer_features(vote.other or "", vote.prompt) for vote in votes])
        self._is_pair = np.array([vote.other is not None for vote in votes])
        self.labels = np.array([float(vote.liked or vote.other is not None) for vote in votes])
        self._weights = limit_weights([vote.rater for vote in votes], rules.rater_share)
        names = sorted({vote.group for vote in votes})
        places = {name: place for place, name in enumerate(names)}
        self._groups = np.array([places[vote.group] for vote in votes])
        # By a draw that knows no labels: the permutation test may then keep the folds.
        self._folds = (self._rng.permutation(len(names)) % rules.folds)[self._groups]

    @property
    def can_compare(self) -> bool:
        thumbs = self.labels[~self._is_pair]
        return bool(self._is_pair.any() or len(set(thumbs.tolist())) == 2)

    def out_of_fold(self, labels: Floats) -> Floats:
        """Scores (P, n) of each vote by the fits (one a labeling) that saw none of its group."""
        scores = np.zeros(labels.shape)
        for fold in range(int(self._folds.max()) + 1):
            out = self._folds == fold
            mean, scale = self._standard(~out)
            columns = self._columns(mean, scale)
            beta = fit_logistic(columns[~out], labels[:, ~out], self._weights[~out], self._rules.ridge)
            # Without the intercept: it is lower where more of this fold are liked, and would count against the fit.
            scores[:, out] = beta[:, 1:] @ columns[out, 1:].T
        return scores

    def concordance(self, scores: Floats, labels: Floats, weights: Floats) -> float:
        """The AUC of thumbs and the share of pairs in the right order, by the weight of either kind."""
        pairs, thumbs = self._is_pair, ~self._is_pair
        parts = []
        liked = labels > 0.5
        if len(set(liked[thumbs & (weights > 0)].tolist())) == 2:
            parts.append((weights[thumbs].sum(), auc_of(scores[thumbs], liked[thumbs], weights[thumbs])))
        if weights[pairs].sum() > 0:
            right = (np.sign(scores[pairs]) * np.where(liked[pairs], 1, -1) + 1) / 2
            parts.append((weights[pairs].sum(), float(weights[pairs] @ right / weights[pairs].sum())))
        total = sum(weight for weight, _ in parts)
        return float(sum(weight * value for weight, value in parts) / total) if parts else 0.5

    def interval(self, scores: Floats, rules: JudgeRules) -> Estimate:
        """The concordance with its percentile bootstrap interval over groups."""
        number = int(self._groups.max()) + 1
        times = self._rng.multinomial(number, [1 / number] * number, size=rules.resamples)
        drawn = self._resampled(scores, times[:, self._groups] * self._weights)
        low, high = np.quantile(drawn, [(1 - rules.confidence) / 2, (1 + rules.confidence) / 2])
        value = self.concordance(scores, self.labels, self._weights)
        return Estimate(value, min(float(low), value), max(float(high), value))

    def _resampled(self, scores: Floats, weights: Floats) -> Floats:
        """`concordance` for many weights (B, n) of the same scores and labels."""
        pairs, liked = self._is_pair, self.labels > 0.5
        up, down = ~pairs & liked, ~pairs & ~liked
        lead = (np.sign(scores[up][:, None] - scores[down][None, :]) + 1) / 2
        won = ((weights[:, up] @ lead) * weights[:, down]).sum(axis=1)
        met = weights[:, up].sum(axis=1) * weights[:, down].sum(axis=1)
        thumbs = np.where(met > 0, weights[:, ~pairs].sum(axis=1), 0.0)
        right = weights[:, pairs] @ ((np.sign(scores[pairs]) + 1) / 2)
        total = thumbs + weights[:, pairs].sum(axis=1)
        value = (thumbs * won / np.where(met > 0, met, 1.0) + right) / np.where(total > 0, total, 1.0)
        return np.asarray(np.where(total > 0, value, 0.5))

    def permutation_p(self, value: float, permutations: int) -> float:
        """How likely shuffled labels give such a concordance: thumbs change places, pairs change sides."""
        thumbs = np.flatnonzero(~self._is_pair)
        labels = np.where(self._is_pair, self._rng.integers(0, 2, (permutations, len(self.labels))), self.labels)
        labels[:, thumbs] = self._rng.permuted(labels[:, thumbs], axis=1)
        scores = self.out_of_fold(labels)
        reached = sum(
            self.concordance(score, label, self._weights) >= value for score, label in zip(scores, labels, strict=True)
        )
        return (1 + reached) / (1 + permutations)

    def fit_all(self, rules: JudgeRules) -> tuple[FeedbackJudge, tuple[LearnedWeight, ...]]:
        """The judge of all votes, and its weights, the largest first."""
        everything = np.ones(len(self.labels), bool)
        mean, scale = self._standard(everything)
        beta = fit_logistic(self._columns(mean, scale), self.labels[None], self._weights, rules.ridge)[0, 1:]
        answers = np.concatenate([self._first, self._other[self._is_pair]])
        spread = float((standardise(answers, mean, scale) @ beta).std())
        judge = FeedbackJudge(
            tuple(mean.tolist()), tuple(scale.tolist()), tuple(beta.tolist()), rules.tie_margin * spread
        )
        learned = [
            LearnedWeight(
                name, f"people {'like' if weight > 0 else 'dislike'} answers that {words}: {weight:+.1f}", weight
            )
            for (name, words), weight in zip(FEATURES.items(), beta.tolist(), strict=True)
        ]
        return judge, tuple(sorted(learned, key=lambda each: -abs(each.weight)))

    def _standard(self, rows: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
        answers = np.concatenate([self._first[rows], self._other[rows & self._is_pair]])
        return answers.mean(axis=0), answers.std(axis=0)

    def _columns(self, mean: Floats, scale: Floats) -> Floats:
        """(n, k): an intercept for thumbs, then an answer's features, or the difference of two."""
        first, other = (standardise(rows, mean, scale) for rows in (self._first, self._other))
        return np.column_stack([~self._is_pair, first - np.where(self._is_pair[:, None], other, 0.0)])


def _report(
    votes: Sequence[Vote],
    reason: str,
    accepted: bool = False,
    auc: Estimate | None = None,
    p: float | None = None,
    weights: tuple[LearnedWeight, ...] = (),
) -> JudgeReport:
    pairs = sum(vote.other is not None for vote in votes)
    return JudgeReport(
        accepted=accepted,
        reason=reason,
        votes=len(votes),
        thumbs=len(votes) - pairs,
        pairs=pairs,
        raters=len({vote.rater for vote in votes}),
        groups=len({vote.group for vote in votes}),
        auc=auc,
        p_value=p,
        weights=weights,
    )
