"""What one knob may be: the strict models of sliders, switches and the grammars' sizes.

Each model refuses whatever the compiler could not serve. ``catalogue.py`` puts them together and checks what only
shows across knobs.
"""

import itertools
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    StrictBool,
    StrictInt,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from deployments.controls.hint import did_you_mean, shown

Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Level = Annotated[StrictInt, Field(ge=0, le=100)]
Line = Annotated[str, Strict(), StringConstraints(min_length=1, max_length=200, pattern=r"^[^\n]*$")]
Phrase = Annotated[str, Strict(), StringConstraints(max_length=400, pattern=r"^[^\n]*$")]
KnobName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
ValueName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]

PARAMETER_LIMITS: Mapping[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_p": (0.01, 1.0),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "repetition_penalty": (0.5, 2.0),
}
"""The OpenAI API's limits where it has the parameter, else those of vLLM's SamplingParams, without the values
that no slider should reach: top_p 0 (refused by vLLM) and a repetition penalty that rewards loops."""


def fault(reason: str, *path: str | int) -> PydanticCustomError:
    """An error that ``load_catalogue`` reports at ``path``, relative to the model that raises it."""
    return PydanticCustomError("catalogue", "{reason}", {"reason": reason, "path": path})


def _check_curve(points: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
    levels = [level for level, _ in points]
    if not levels or levels[0] != 0 or levels[-1] != 100:
        raise fault(f"got a curve over levels {levels}; it must begin at 0 and end at 100.")
    for index, (left, right) in enumerate(itertools.pairwise(levels)):
        if right <= left:
            raise fault(f"got level {right} after {left}; levels must increase from point to point.", index + 1)
    return points


Curve = Annotated[tuple[tuple[StrictInt, Number], ...], AfterValidator(_check_curve)]
"""Points (level, value): straight lines between them, over 0..100."""


def interpolate(curve: tuple[tuple[int, float], ...], level: int) -> float:
    """Read a curve at a level 0..100 by linear interpolation; continuous, exact at the points."""
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if level <= x1:
            return y0 + (y1 - y0) * ((level - x0) / (x1 - x0)) if level < x1 else y1
    raise AssertionError(f"a curve covers 0..100, got level {level}")


class StrictModel(BaseModel):
    """Frozen; an unknown key is an error that names it and what was probably meant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for key in data if isinstance(data, Mapping) else ():
            if key not in known:
                raise fault(f"is not a known key; known here: {', '.join(known)}.{did_you_mean(key, known)}", key)
        return data


class Band(StrictModel):
    """A phrase that holds from a level up to the next band's."""

    from_level: Level = Field(alias="from")
    text: Phrase


class SamplingCurves(StrictModel):
    """Sampling parameters as curves over the level; units are those of ``graph.contracts.Sampling``."""

    temperature: Curve | None = None
    top_p: Curve | None = None
    min_p: Curve | None = None
    presence_penalty: Curve | None = None
    frequency_penalty: Curve | None = None
    repetition_penalty: Curve | None = None

    @cached_property
    def given(self) -> dict[str, tuple[tuple[int, float], ...]]:
        """Curves by parameter, only those that the file has."""
        return {name: curve for name in PARAMETER_LIMITS if (curve := getattr(self, name)) is not None}

    @model_validator(mode="after")
    def _check_values(self) -> "SamplingCurves":
        for name, curve in self.given.items():
            low, high = PARAMETER_LIMITS[name]
            for index, (_, value) in enumerate(curve):
                if not low <= value <= high:
                    raise fault(f"got {value:g}; {name} must be {low:g} to {high:g}.", name, index)
        return self


LEVER_LIMITS: Mapping[str, float] = {"rarity": 2.0, "anchor": 4.0, "stops": 8.0, "casual": 30.0}
"""The largest value of each lever, either way: logits, but for rarity, which aims at a mean in Zipf units
(``graph.contracts.LogitsPlan``). A casual word can be banned."""


class LeverCurves(StrictModel):
    """Levers on the engine's logits as curves over the level; meaning and units are those of ``LogitsPlan``."""

    rarity: Curve | None = None
    anchor: Curve | None = None
    stops: Curve | None = None
    casual: Curve | None = None

    @cached_property
    def given(self) -> dict[str, tuple[tuple[int, float], ...]]:
        """Curves by lever, only those that the file has."""
        return {name: curve for name in LEVER_LIMITS if (curve := getattr(self, name)) is not None}

    @model_validator(mode="after")
    def _check_values(self) -> "LeverCurves":
        for name, curve in self.given.items():
            for index, (_, value) in enumerate(curve):
                if abs(value) > LEVER_LIMITS[name]:
                    limit = LEVER_LIMITS[name]
                    raise fault(f"got {value:g}; {name} must be {-limit:g} to {limit:g}.", name, index)
        return self


class LengthCurve(StrictModel):
    """Target words: words_at_0 · (words_at_100 / words_at_0) ^ (level / 100), an equal ratio a step."""

    words_at_0: Annotated[StrictInt, Field(ge=1, le=100_000)]
    words_at_100: Annotated[StrictInt, Field(ge=1, le=100_000)]
    tokens_per_word: Annotated[Number, Field(ge=0.5, le=20)]
    shaped: StrictBool = True
    """Whether the engine holds the end back until the target, and favours it there."""

    @model_validator(mode="after")
    def _check_direction(self) -> "LengthCurve":
        if self.words_at_100 <= self.words_at_0:
            raise fault(f"got {self.words_at_100}; it must be above words_at_0 ({self.words_at_0}).", "words_at_100")
        return self

    def words(self, level: int) -> float:
        """Target length in words at a level 0..100, not rounded."""
        return float(self.words_at_0 * (self.words_at_100 / self.words_at_0) ** (level / 100))


class Slider(StrictModel):
    """A Linguistic Potentiometer: an integer 0..100 that compiles into a phrase, numbers, or both."""

    title: Line
    meaning: Line
    low: Line
    high: Line
    default: Level
    untouched: Literal["neutral", "apply"]
    bands: tuple[Band, ...] = ()
    sampling: SamplingCurves = SamplingCurves()
    logits: LeverCurves = LeverCurves()
    length: LengthCurve | None = None
    expand_contractions_from: Level | None = None
    """From this level on, contractions are written out in the finished text; None: never."""
    moves_with: dict[KnobName, Line] = {}
    """Sliders whose yardstick this one moves too, and why: what the cross-talk of a calibration may show."""
    needs: KnobName | None = None

    @model_validator(mode="after")
    def _check_bands(self) -> "Slider":
        levels = [band.from_level for band in self.bands]
        if levels and levels[0] != 0:
            raise fault(f"got {levels[0]}; the first band must start at 0.", "bands", 0, "from")
        for index, (left, right) in enumerate(itertools.pairwise(levels)):
            if right <= left:
                raise fault(f"got {right} after {left}; bands must be in increasing order.", "bands", index + 1, "from")
        for index, band in enumerate(self.bands):
            check_placeholders(band.text, {"{words}"} if self.length else set(), "bands", index, "text")
        numbers = (*self.sampling.given, *self.logits.given, self.length, self.expand_contractions_from)
        if not any(band.text for band in self.bands) and all(number is None for number in numbers):
            raise fault("compiles into nothing; give it bands, sampling, logits, length or expand_contractions_from.")
        return self

    def phrase(self, level: int) -> str:
        """The phrase of the band that holds a level; may be empty."""
        return next((band.text for band in reversed(self.bands) if band.from_level <= level), "")


class Settings(StrictModel):
    """What a preset sets."""

    lp: dict[KnobName, Level] = {}
    ls: dict[KnobName, ValueName] = {}


class SwitchValue(StrictModel):
    """One position of a switch."""

    title: Line
    phrase: Phrase = ""
    sets: Settings | None = None
    """Only on values of ``preset``."""
    latin: StrictBool | None = None
    """Only on values of ``language``: whether the script is Latin."""


class Switch(StrictModel):
    """A Linguistic Switch: one of some named values."""

    title: Line
    meaning: Line
    default: ValueName
    values: Annotated[dict[ValueName, SwitchValue], Field(min_length=1)]
    needs: KnobName | None = None

    @model_validator(mode="after")
    def _check_default(self) -> "Switch":
        if self.default not in self.values:
            raise fault(
                f"got {self.default!r}; must be one of: {', '.join(self.values)}."
                f"{did_you_mean(self.default, self.values)}",
                "default",
            )
        if next(iter(self.values)) != self.default:
            raise fault(f"got {next(iter(self.values))!r} first; the default ({self.default!r}) comes first.", "values")
        return self


class Forms(StrictModel):
    """Upper bounds of the grammars, as curves over depth. Characters, except ``max_lines``."""

    line_chars: Curve
    max_lines: Curve
    summary_chars: Curve
    json_answer_chars: Curve
    json_point_chars: Curve

    @model_validator(mode="after")
    def _check_values(self) -> "Forms":
        for name in type(self).model_fields:
            low, high = (3, 7) if name == "max_lines" else (40, 20_000)
            for index, (_, value) in enumerate(getattr(self, name)):
                if not low <= value <= high:
                    raise fault(f"got {value:g}; {name} must be {low} to {high}.", name, index)
        return self


def check_placeholders(text: str, allowed: Collection[str], *at: str | int) -> None:
    """Refuse braces in a phrase that are not one of the placeholders that the compiler fills."""
    rest = text
    for placeholder in allowed:
        rest = rest.replace(placeholder, "")
    if "{" in rest or "}" in rest:
        raise fault(f"got {shown(text)}; braces hold only: {', '.join(allowed) or 'nothing here'}.", *at)
