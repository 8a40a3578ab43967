"""The vocabulary of curation, and everything that decides what becomes of equal rows. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal, get_args

from deployments.validator.checks import CHECKS
from graph.errors import InvalidRequest

CURATION_VERSION = 1
"""Of the rules in this package. Raise it when equal rows and parameters give another dataset; a test pins one."""

Method = Literal["kto", "sft", "dpo"]
METHODS: tuple[Method, ...] = get_args(Method)
Split = Literal["train", "eval", "vault"]
SPLITS: tuple[Split, ...] = get_args(Split)
"""vault: never trained on and never tuned on, for a last look."""
Reason = Literal[
    "blocked",
    "contradicted",
    "correction_failed_check",
    "duplicate",
    "erased",
    "liked_but_failed_check",
    "near_duplicate",
    "no_difference",
    "no_text",
    "not_by_a_person",
    "not_kept",
    "other_answer_missing",
    "other_metric",
    "other_signal",
    "rater_limit",
    "service_text",
    "undelivered",
    "unreadable_prompt",
]
REASONS: Mapping[Reason, str] = {
    "blocked": "the answer was blocked: its text is only what left before",
    "contradicted": "most raters of the same prompt and answer said the opposite, or as many did",
    "correction_failed_check": "the corrected text fails a hard check",
    "duplicate": "the same prompt and answer with the same verdict is in already",
    "erased": "a tombstone names it, its answer or what it was changed by",
    "liked_but_failed_check": "liked, but a hard check fails: the sycophancy guard",
    "near_duplicate": "nearly the same prompt and answer with the same verdict is in already",
    "no_difference": "both answers are the same text",
    "no_text": "a text is not in the log, or is blank",
    "not_by_a_person": "a judge or a program said it",
    "not_kept": "nothing says that the second answer was kept",
    "other_answer_missing": "the other answer is not in the log of this tenant",
    "other_metric": "a thumb of a metric that is not trained on",
    "other_signal": "a kind of signal that is not trained on",
    "rater_limit": "beyond the share that one rater may have",
    "service_text": "the answer is a fixed text of the service, not the model's",
    "undelivered": "the answer never reached its caller",
    "unreadable_prompt": "the prompt is no list of turns that ends with the user's",
}
"""Why a candidate is left out."""

HARD_CHECKS: tuple[str, ...] = tuple(name for name, check in CHECKS.items() if check.severity == "hard")


@dataclass(frozen=True, slots=True)
class CurationParameters:
    """All that decides what becomes of equal rows. Shares are of 1, as decimals."""

    thumb_metrics: tuple[str, ...] = ("thumb",)
    """Boolean metrics that are trained on."""
    lower_is_better: tuple[str, ...] = ()
    """Of those, the ones where false is good."""
    guard_checks: tuple[str, ...] = HARD_CHECKS
    """Checks whose recorded failure counts as hard. Of these the hard ones are run again."""
    service_texts: tuple[str, ...] = ()
    """Texts that the service puts in the place of an answer."""
    rater_share: float = 0.05
    """The most of a method's rows that may come from one rater. n raters can each stay under 1/n only, so this also
    asks for 1/share raters."""
    min_raters: int = 3
    """Distinct raters that a method needs, however large the share of each may be."""
    near_duplicate: float = 0.85
    """Jaccard similarity of word shingles from which rows are near-duplicates; 1: only equal sets."""
    eval_share: float = 0.1
    vault_share: float = 0.1
    """Of prompts. Change neither once a vault is in use: prompts would move out of it."""
    split_by: Literal["conversation", "prompt"] = "conversation"
    """conversation: by the first user turn, so that no later turn carries a vault's answer into training. prompt: by
    all turns; for applications whose conversations begin alike."""
    regeneration_weight: float = 0.5
    """Weight of pairs from regenerations: keeping the second says less than a preference. Others weigh 1."""
    kto_batch_size: int = 8
    """Rows a process and step, for which the order of KTO rows is made; >= 2, else KTO has no mismatched pair."""
    seed: int = 0
    """Shuffles the rows, and chooses which of a rater's rows stay. It does not move the split."""

    def __post_init__(self) -> None:
        _check_share("rater_share", self.rater_share, low_open=True)
        _check_share("near_duplicate", self.near_duplicate, low_open=True)
        _check_share("eval_share", self.eval_share, high_open=True)
        _check_share("vault_share", self.vault_share, high_open=True)
        if exact(self.eval_share) + exact(self.vault_share) >= 1:
            raise InvalidRequest(
                f"eval_share {self.eval_share} and vault_share {self.vault_share} leave nothing to train on; together "
                "they must be below 1, such as 0.1 and 0.1.",
                param="eval_share",
            )
        for name, value, least in (("min_raters", self.min_raters, 1), ("kto_batch_size", self.kto_batch_size, 2)):
            if value < least:
                raise InvalidRequest(f"{name} is {value}; it must be {least} or more.", param=name)
        if self.split_by not in ("conversation", "prompt"):
            raise InvalidRequest(f"split_by is {self.split_by!r}; allowed: conversation, prompt.", param="split_by")
        unknown = sorted(set(self.guard_checks) - set(CHECKS))
        if unknown:
            raise InvalidRequest(
                f"{unknown[0]!r} is no check; the guard may have: {', '.join(CHECKS)}.", param="guard_checks"
            )

    def as_json(self) -> dict[str, Any]:
        """Return them for the manifest."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def exact(share: float) -> Fraction:
    """Return the decimal that was written: 0.05 is 1/20, which no binary float is."""
    return Fraction(repr(share))


def assign_split(place: int, parameters: CurationParameters) -> Split:
    """Return the split of a place: the vault lies lowest, so that another eval share moves no prompt out of it."""
    vault = exact(parameters.vault_share) * 2**64
    if place < vault:
        return "vault"
    return "eval" if place < vault + exact(parameters.eval_share) * 2**64 else "train"


def _check_share(name: str, value: float, *, low_open: bool = False, high_open: bool = False) -> None:
    if not (0 <= value <= 1) or (low_open and value == 0) or (high_open and value == 1):
        low, high = ("above 0" if low_open else "0 or more"), ("below 1" if high_open else "at most 1")
        raise InvalidRequest(f"{name} is {value}; it must be {low} and {high}.", param=name)
