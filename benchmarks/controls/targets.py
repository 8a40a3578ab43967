"""What each dial must reach, as issue 3 states it, and whether it did. Reads the figures, computes none."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.controls.plan import NO_CONTRACTIONS_FROM

Figures = Mapping[str, Any]
BLOCK_SLACK = 0.02
"""A cache holds whole blocks of 32 tokens, so the shares of two conversations of about 900 differ by this much."""


@dataclass(frozen=True, slots=True)
class Target:
    """One promise: ``met`` is None where nothing was measured."""

    knob: str
    what: str
    must: str
    figure: str
    met: bool | None


def judge(figures: Figures) -> list[dict[str, Any]]:
    """Every target of the parts that were measured, JSON-ready."""
    found = [target for part, targets in _PARTS.items() if part in figures for target in targets(figures[part])]
    return [asdict(target) for target in _with_prompt_only(found, figures)]


def _with_prompt_only(targets: Iterable[Target], figures: Figures) -> Iterator[Target]:
    """Technicality's correlations with that of the phrase alone beside them, where that was measured."""
    alone = figures.get("ablations", {}).get("phrase only", {}).get("technicality", {}).get("curves", {})
    for target in targets:
        name = target.what.rpartition(" ")[2].lower()
        if target.knob == "technicality" and name in alone:
            yield replace(target, figure=f"{target.figure}; phrase only {alone[name]['rho']['value']:.3f}")
        else:
            yield target


def _depth(figures: Figures) -> Iterator[Target]:
    words = figures["words"]
    yield _rho("depth", "Spearman ρ, per response, words", words["rho"], 0.97)
    means = [f"{level['mean']:.0f}" for level in words["levels"].values()]
    yield Target("depth", "level means, words", "strictly increasing", " / ".join(means), words["in_order"])
    yield Target("depth", "largest by smallest level mean", "≥ 20", f"{figures['range']:.1f}", figures["range"] >= 20)
    error = figures["length_error"]["median"]
    yield Target("depth", "median length error", "≤ 15%", _percent(error), None if error is None else error <= 0.15)
    ended = figures["graceful"]["all"]
    yield Target("depth", "graceful ends", "≥ 99%", f"{ended['hits']} of {ended['of']}", ended["value"] >= 0.99)


def _creativity(figures: Figures) -> Iterator[Target]:
    for name, title in (("variety", "1 − mean cosine"), ("distinct_2", "distinct-2")):
        rho = figures[name]["rho_of_means"]
        yield Target("creativity", f"level ρ, {title}", "≥ 0.95", f"{rho:.2f}", rho >= 0.95)
    yield _loss("creativity", figures)
    same = figures["identical_at_0"]
    text = f"{same['identical']} of {same['prompts']} prompts"
    what = "the same text on every seed at 0, as served, in the sweep"
    yield Target("creativity", what, "all", text, same["identical"] == same["prompts"])


def _technicality(figures: Figures) -> Iterator[Target]:
    yield _rho("technicality", "Spearman ρ, per response, CEFR", figures["cefr"]["rho"], 0.90)
    yield _rho("technicality", "Spearman ρ, per response, FKGL", figures["fkgl"]["rho"], 0.75)
    yield _loss("technicality", figures)


def _formality(figures: Figures) -> Iterator[Target]:
    yield _rho("formality", "Spearman ρ, per response, casual marks (turned)", figures["casual"]["rho"], 0.80)
    found = figures["contractions_where_none_may_be"]
    yield Target("formality", f"contractions at ≥ {NO_CONTRACTIONS_FROM}", "0", str(found), found == 0)


def _forms(figures: Figures) -> Iterator[Target]:
    for name, form in figures.items():
        text = f"{form['valid']} of {form['finished']} finished ({form['asked']} asked)"
        yield Target(name, "valid", "100%", text, form["valid"] == form["finished"] > 0)


def _crosstalk(figures: Figures) -> Iterator[Target]:
    undeclared = [cell for cell in figures["cells"] if not cell["own"] and not cell["declared"]]
    if undeclared:
        worst = max(undeclared, key=lambda cell: abs(cell["shift_sd"]))
        above = sum(abs(cell["shift_sd"]) >= 0.2 for cell in undeclared)
        text = f"{abs(worst['shift_sd']):.2f} at most ({worst['slider']} → {worst['yardstick']}), {above} above"
        yield Target("cross-talk", "undeclared pairs, SD of the yardstick's own sweep", "< 0.2", text, above == 0)


def _immediacy(figures: Figures) -> Iterator[Target]:
    for name, knob in figures["sliders"].items():
        for yardstick, one in ((knob["yardstick"], knob), *knob["beside"].items()):
            share = one["moved_right"]
            text = f"{share['value']:.1%} of {one['pairs']} ({share['low']:.0%} to {share['high']:.0%})"
            what = f"{name} moved by 40: the next answer follows, {yardstick}"
            yield Target("immediacy", what, "≥ 90%", text, share["value"] >= 0.9)


def _prefix(figures: Figures) -> Iterator[Target]:
    arms = figures["arms"]
    moved = {name: arm["at_last_turn"] for name, arm in arms.items() if arm["kind"] == "moved"}
    unmoved = next((arm["at_last_turn"] for arm in arms.values() if arm["kind"] == "unmoved"), None)
    for name, share in moved.items():
        met = None if share is None else share >= 0.85
        yield Target("prefix cache", f"{name}, turn {figures['turns']}", "≥ 85%", _percent(share), met)
    measured = [share for share in moved.values() if share is not None]
    if measured and unmoved is not None:
        text = f"{_percent(unmoved)} unmoved, {_percent(max(measured))} at most moved"
        met = unmoved >= max(measured) - BLOCK_SLACK
        yield Target("prefix cache", "not moving a dial is no worse", f"within {BLOCK_SLACK:.0%}", text, met)


def _repeatable(figures: Figures) -> Iterator[Target]:
    side, same = next(iter(figures.items()))
    text = f"{same['identical']} of {same['prompts']} prompts ({same['tokens_per_s']:.0f} tokens/s)"
    what = f"the same text on every seed at 0, {side}"
    yield Target("creativity", what, "all", text, same["identical"] == same["prompts"] > 0)
    text = f"{same['alone_identical']} of {same['alone']} prompts"
    what = f"the same text alone as in the crowd at 0, {side}"
    yield Target("creativity", what, "all", text, same["alone_identical"] == same["alone"] > 0)


_PARTS = {
    "depth": _depth,
    "creativity": _creativity,
    "technicality": _technicality,
    "formality": _formality,
    "forms": _forms,
    "crosstalk": _crosstalk,
    "immediacy": _immediacy,
    "prefix": _prefix,
    "repeatable": _repeatable,
}


def _rho(knob: str, what: str, rho: Mapping[str, float], least: float) -> Target:
    text = f"{rho['value']:.3f} ({rho['low']:.3f} to {rho['high']:.3f})"
    return Target(knob, what, f"≥ {least:.2f}", text, rho["value"] >= least)


def _loss(knob: str, figures: Figures) -> Target:
    """Relevance lost against the reference level, where it is lost most."""
    relevance = figures["relevance"]
    what = f"relevance loss against level {relevance['reference']}, at most"
    if not relevance["loss"]:
        return Target(knob, what, "≤ 0.05", "not measured", None)
    level, loss = max(relevance["loss"].items(), key=lambda item: item[1])
    return Target(knob, what, "≤ 0.05", f"{loss:.3f} (at {level})", loss <= 0.05)


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{share:.1%}"
