"""The page's sections, each from its part of the record."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.controls.markdown import number, rho_with_interval, share, share_with_interval, table
from benchmarks.controls.plan import SLIDERS
from benchmarks.controls.samples import CURVES

PICTURES = "pictures"
"""Folder of the pictures, beside the page."""

Figures = Mapping[str, Any]
Section = Callable[[Figures, Sequence[str]], str]
"""Figures and the names of the pictures that were drawn, to Markdown."""

_TITLES: Mapping[str, str] = {
    "words": "words",
    "variety": "1 − mean cosine",
    "distinct_2": "distinct-2",
    "cefr": "CEFR",
    "fkgl": "FKGL",
    "casual": "casual marks per 100 words",
}


def slider(knob: str, figures: Figures, pictures: Sequence[str]) -> str:
    """One slider's sweep, by level and by kind of prompt."""
    curves = CURVES[knob]
    levels = list(figures[curves[0]]["levels"])
    text = f"## {knob.capitalize()}\n\n{_picture(f'controls-{knob}', knob, pictures)}"
    text += table(("level", *levels), _slider_rows(curves, figures, levels), numbers=True)
    kinds = list(figures[curves[0]]["by_kind"])
    by_kind = [
        (f"ρ, {_TITLES[name]}", *(f"{figures[name]['by_kind'].get(kind, {}).get('rho', 0):.2f}" for kind in kinds))
        for name in curves
    ]
    text += "\n\n" + table(("kind", *kinds), by_kind, numbers=True)
    notes = [
        f"{figures['asked']} asked, {figures['answers']} answered; {figures['second_tries']} of these were second "
        "tries of the quality checks."
    ]
    if "identical_at_0" in figures:
        same = figures["identical_at_0"]
        notes.append(f"At 0, {same['identical']} of {same['prompts']} prompts gave one text on every seed.")
    for level, counted in figures.get("contractions", {}).items():
        if level not in levels:
            notes.append(f"At {level}: {counted['found']} contractions in {counted['answers']} answers.")
    if figures.get("tokens_per_word"):
        notes.append(f"A word takes {figures['tokens_per_word']:.2f} tokens.")
    return text + "\n\n" + " ".join(notes)


def _slider_rows(curves: Sequence[str], figures: Figures, levels: Sequence[str]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name in curves:
        values = [figures[name]["levels"][level] for level in levels]
        rows.append((f"{_TITLES[name]}, mean", *(number(value["mean"]) for value in values)))
        spans = [value["quantiles"] for value in values]
        rows.append(("10% to 90%", *(f"{number(span['10'])} to {number(span['90'])}" for span in spans)))
    if "targets" in figures:
        errors = figures["length_error"]["levels"]
        rows.append(("target, words", *(str(figures["targets"].get(level, "")) for level in levels)))
        rows.append(("median length error", *(share(errors.get(level)) for level in levels)))
    if "contractions" in figures:
        rows.append(("contractions", *(_found(figures["contractions"].get(level)) for level in levels)))
    ends, relevance = figures["graceful"]["levels"], figures["relevance"]
    rows.append(("graceful ends", *(f"{ends[level]['hits']} of {ends[level]['of']}" for level in levels)))
    loops = (str(figures["findings"].get(level, {}).get("repetition", 0)) for level in levels)
    rows.append(("answers that repeat themselves", *loops))
    rows.append(("words that wordfreq does not know", *(f"{figures['unknown_words'][level]:.2%}" for level in levels)))
    rows.append(("relevance", *(number(relevance["means"].get(level)) for level in levels)))
    lost = (number(relevance["loss"].get(level)) for level in levels)
    rows.append((f"relevance lost against {relevance['reference']}", *lost))
    return rows


def forms(figures: Figures, pictures: Sequence[str]) -> str:
    rows = []
    for name, form in figures.items():
        beside = "; ".join(f"{count} × {fault}" for fault, count in form["faults"].items())
        if "one_sentence_summaries" in form:
            beside = beside or f"{form['one_sentence_summaries']} summaries are one sentence"
        if "answers_that_cite" in form:
            beside = beside or f"{form['answers_that_cite']} answers cite, {form['citations']} times in all"
        rows.append((name, form["asked"], form["finished"], form["valid"], form["second_tries"], beside))
    head = ("form", "asked", "finished", "valid", "second tries", "beside")
    told = (
        "Asked at depths 15, 35 and 60 in turn, since depth sizes the grammars. A second try is one that the quality "
        "checks asked for. Fragments of an unfinished answer are not judged."
    )
    return f"## Forms\n\n{table(head, rows)}\n\n{told}"


def crosstalk(figures: Figures, pictures: Sequence[str]) -> str:
    declared = [(name, other, why) for name, others in figures["moves_with"].items() for other, why in others.items()]
    told = (
        "How far turning a slider from 0 to 100 moves each yardstick: in standard deviations over all answers of that "
        "yardstick's own sweep, which is its whole range and what the target is about; and as Cohen's d, in standard "
        "deviations within the two levels. Variety in the sweeps of other sliders is over their seeds."
    )
    yardsticks = list(figures["units"])
    cells = {(cell["slider"], cell["yardstick"]): cell for cell in figures["cells"]}
    rows = [
        (name, *(_cell(cells.get((name, yardstick))) for yardstick in yardsticks))
        for name in dict.fromkeys(cell["slider"] for cell in figures["cells"])
    ]
    matrix = table(("slider", *(_TITLES[name] for name in yardsticks)), rows, numbers=True)
    key = "In italics: the slider's own yardstick. With a star: declared in the catalogue to move with the slider"
    key += f":\n\n{table(('slider', 'moves with it', 'because'), declared)}" if declared else "; none is."
    picture = _picture("controls-crosstalk", "each slider against each yardstick", pictures)
    return f"## Cross-talk\n\n{picture}{told}\n\n{matrix}\n\n{key}"


def _cell(cell: Figures | None) -> str:
    if cell is None:
        return ""
    text = f"{cell['shift_sd']:+.2f} (d {cell['cohens_d']:+.2f})"
    return f"*{text}*" if cell["own"] else f"{text} ★" if cell["declared"] else text


def immediacy(figures: Figures, pictures: Sequence[str]) -> str:
    sliders = figures["sliders"]
    rows = [
        (
            name,
            _TITLES[yardstick],
            one["pairs"],
            share_with_interval(one["moved_right"]),
            one["tied"],
            share_with_interval(one["against_unmoved"]),
        )
        for name, knob in sliders.items()
        for yardstick, one in ((knob["yardstick"], knob), *knob["beside"].items())
    ]
    moves = list(next(iter(sliders.values()))["by_move"])
    by_move = [(name, *(f"{knob['by_move'][move]['value']:.0%}" for move in moves)) for name, knob in sliders.items()]
    told = (
        "Two turns on one topic, the dial moved by 40 between them, the model's own first answer in the history. The "
        "second answer is compared with the first, and with what the second turn says when the dial is left alone: "
        "another question moves a yardstick by itself. A tie counts as not moved."
    )
    head = ("slider", "yardstick", "pairs", "moved the right way", "tied", "against a dial left alone")
    return f"## Immediacy\n\n{told}\n\n{table(head, rows)}\n\n{table(('slider', *moves), by_move, numbers=True)}"


def prefix(figures: Figures, pictures: Sequence[str]) -> str:
    last = figures["turns"]
    rows = [
        (
            name,
            share(arm["at_last_turn"]),
            share(arm["over_turns"]),
            share(arm["seen_at_last_turn"]),
            f"{arm['prompt_tokens_at_last_turn']:.0f}",
            arm["conversations"],
        )
        for name, arm in figures["arms"].items()
    ]
    told = (
        f"Conversations of {last} turns, read from `usage.prompt_tokens_details.cached_tokens`, vLLM's own count. The "
        "share is of the earlier turns' tokens as they stand in the prompt, without those of the chat template. *Of "
        "all seen before* divides by the prompt of the turn before, its directive included, and its answer. A cache "
        "holds whole blocks, and what stood behind a directive, which is the last answer, is computed anew."
    )
    at_last = f"prompt tokens, turn {last}"
    head = ("arm", f"turn {last}", f"turns 2 to {last}", "of all seen before", at_last, "conversations")
    picture = _picture("controls-prefix", "share of cached tokens by turn", pictures)
    return f"## Prefix cache\n\n{picture}{told}\n\n{table(head, rows, numbers=True)}"


def ablations(figures: Figures, pictures: Sequence[str]) -> str:
    rows = []
    for knob in SLIDERS:
        for arm, knobs in figures.items():
            if knob not in knobs:
                continue
            one = knobs[knob]
            ends = f"{one['graceful']['hits']} of {one['graceful']['of']}"
            for name, curve in one["curves"].items():
                means = " / ".join(number(mean) for mean in curve["means"].values())
                rows.append((knob, _TITLES[name], arm, rho_with_interval(curve["rho"]), means, ends, _beside(one)))
    told = (
        "The same sweeps with one seed, on catalogues from which levers were taken. Arms add up; the last one of a "
        "dial is the catalogue as it is for that dial. Without sampling as a lever, it stands where creativity's "
        "default puts it."
    )
    head = ("dial", "yardstick", "arm", "ρ", "level means", "graceful ends", "beside")
    return f"## Ablations\n\n{told}\n\n{table(head, rows)}"


def _beside(one: Figures) -> str:
    said = []
    if "range" in one:
        said.append(f"range {one['range']:.1f}×, median error {share(one['length_error']['median'])}")
    if "contractions" in one:
        said.append("contractions " + " / ".join(str(each["found"]) for each in one["contractions"].values()))
    if one["relevance_loss"] is not None:
        said.append(f"relevance lost, at most {one['relevance_loss']:.3f}")
    return "; ".join(said)


def repeatable(figures: Figures, pictures: Sequence[str]) -> str:
    rows = [
        (
            f"`{side}`",
            f"{same['identical']} of {same['prompts']}",
            f"{same['alone_identical']} of {same['alone']}",
            same["answers"],
            f"{same['tokens_per_s']:.0f}",
        )
        for side, same in figures.items()
    ]
    told = (
        "Creativity at 0, every prompt with every seed, all at once, on a service with `engine.vllm.batch_invariant` "
        "and on one without. Greedy decoding is exact, an engine's sums are not: their order depends on what shares a "
        "batch. *Alone as in the crowd* asks some prompts once more, one at a time."
    )
    head = ("service", "prompts with one text", "alone as in the crowd", "answers", "tokens/s")
    return f"## Repeatable answers\n\n{told}\n\n{table(head, rows, numbers=True)}"


SECTIONS: Mapping[str, Section] = {
    "forms": forms,
    "crosstalk": crosstalk,
    "immediacy": immediacy,
    "prefix": prefix,
    "repeatable": repeatable,
    "ablations": ablations,
}
"""After those of the sliders, in this order."""


def _picture(name: str, title: str, pictures: Sequence[str]) -> str:
    return f"![{title}]({PICTURES}/{name}.png)\n\n" if name in pictures else ""


def _found(counted: Mapping[str, int] | None) -> str:
    return "-" if counted is None else f"{counted['found']} in {counted['answers']} answers"
