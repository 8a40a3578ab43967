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
    foreign_score: float = Field(default=0.4, gt=0.0, le=1.0)
    """A piece counts as foreign only when the detector is at least this sure, and of the wanted language hardly."""
    language_min_characters: int = Field(default=25, ge=10)
    """Shorter pieces are not judged: detection on them is a guess."""
    prompt_language_score: float = Field(default=0.8, gt=0.0, le=1.0)
    """The prompt's own language is trusted from this score on."""
    prompt_language_min_characters: int = Field(default=40, ge=10)
    """And from this length on; a shorter prompt only where its commonest words say the same."""
    nonword_share: float = Field(default=0.1, gt=0.0, le=1.0)
    """Share of an English answer's different words that may be no English words; good ones have at most 0.04."""
    nonword_min_words: int = Field(default=20, ge=8)
    """Answers with fewer different words of four letters and more are not judged by them."""
    refusal_max_words: int = Field(default=60, ge=5)
    """A longer answer says more than that it will not answer."""
    control_fit_ratio: float = Field(default=2.0, gt=1.0)
    """An answer may be so many times as long or as short as the controls promised."""
    reading_level_distance: float = Field(default=0.5, gt=0.0, le=5.0)
    """CEFR levels that the mean of an answer's words may lie beyond the range that the controls promised; of 33 real
    answers without a fault, none lies further than 0.3."""
    reading_level_min_words: int = Field(default=30, ge=5)
    """Shorter answers are not judged by their reading level: a few words move its mean."""
    relevance: float = Field(default=0.2, ge=-1.0, le=1.0)
    """An answer whose cosine with its question is below this is about something else; 0.03 more is asked of one that
    shares no content word with the question, and 0.1 less of one that shares two, of a form of text that was asked for
    (``checks/relevance.py``), and of a short definition that begins "It's". An answer that names what its question is
    about is not measured."""
    relevance_min_words: int = Field(default=12, ge=1)
    """Shorter answers are not judged by their cosine: it says little of "Yes, on Tuesday"."""


DEFAULTS = Thresholds()
