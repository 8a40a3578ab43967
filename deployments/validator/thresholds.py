"""How much of a quality defect is too much. Read by the soft checks, set in ``configs/quality.yaml``.

The hard checks have none: what counts as a secret, a personal value or a leak is not a matter of taste.
"""

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["DEFAULTS", "Thresholds"]


class Thresholds(BaseModel):
    """Limits of the soft checks; the defaults are the ones measured in the first evaluation."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    truncation_min_words: int = Field(default=8, ge=1)
    """A last line of fewer words than this may end without an end mark ("Paris", a signature)."""
    duplicate_share: float = Field(default=0.12, gt=0.0, le=1.0)
    """Share of the 8-grams that stood before in the same text."""
    verse_duplicate_share: float = Field(default=0.5, gt=0.0, le=1.0)
    """The same for texts of short lines: songs and poems repeat a refrain on purpose."""
    duplicate_min_words: int = Field(default=24, ge=8)
    """Shorter texts are not judged by their 8-grams."""
    loop_words: int = Field(default=10, ge=3)
    """The same word so many times in a row is a loop."""
    loop_characters: int = Field(default=64, ge=8)
    """A run of so many characters that repeats one short unit is a loop."""
    foreign_share: float = Field(default=0.25, gt=0.0, le=1.0)
    """Share of the judged characters that may be in another language before it is a finding."""
    foreign_score: float = Field(default=0.6, gt=0.0, le=1.0)
    """A piece counts as foreign only when the detector is at least this sure."""
    language_min_characters: int = Field(default=25, ge=10)
    """Shorter pieces are not judged: detection on them is a guess."""
    prompt_language_score: float = Field(default=0.8, gt=0.0, le=1.0)
    """The prompt's own language is trusted from this score on."""
    prompt_language_min_characters: int = Field(default=40, ge=10)
    """The prompt's own language is trusted from this length on."""


DEFAULTS = Thresholds()
