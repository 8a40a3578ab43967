"""Writes ``docs/controls.md`` and its pictures from a record: nothing on the page is typed by hand but the notes.

    python -m benchmarks.controls.page benchmarks/results/controls-smollm2-135m.json [--page docs/controls.md]

``notes.md`` beside this module, where it exists, holds what figures cannot say: what was tried, what the next lever is.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.controls.figures import highest_spearman
from benchmarks.controls.markdown import table
from benchmarks.controls.plan import SLIDERS
from benchmarks.controls.plots import draw_all
from benchmarks.controls.prompts import HELD_OUT, TUNING
from benchmarks.controls.sections import PICTURES, SECTIONS, slider
from graph.settings import PROJECT_ROOT

PAGE = PROJECT_ROOT / "docs" / "controls.md"
NOTES = Path(__file__).with_name("notes.md")


def main(argv: Sequence[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m benchmarks.controls.page", description=__doc__.split("\n")[0])
    parser.add_argument("record", type=Path)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(argv)
    write_page(options.record, options.page)
    return 0


def write_page(record: Path, page: Path) -> None:
    """Draws the pictures beside the page and writes it."""
    data = json.loads(record.read_text())
    pictures = draw_all(data, page.parent / PICTURES)
    notes = NOTES.read_text().strip() if NOTES.exists() else ""
    page.write_text(compose(data, pictures, record.name, notes))


def compose(record: Mapping[str, Any], pictures: Sequence[str], record_name: str, notes: str = "") -> str:
    """The page's text.

    Args:
        record: As ``recording.save_record`` wrote it, read back.
        pictures: Names of those that were drawn.
        record_name: The record's file name, for the command that repeats the run.
        notes: Markdown that goes in after the targets.
    """
    figures = record["figures"]
    parts = [_opening(record), _targets(record["targets"]), notes, _method(record, record_name)]
    parts += [slider(knob, figures[knob], pictures) for knob in SLIDERS if knob in figures]
    parts += [section(figures[name], pictures) for name, section in SECTIONS.items() if figures.get(name)]
    parts.append(_versions(record))
    return "\n\n".join(part for part in parts if part) + "\n"


def _opening(record: Mapping[str, Any]) -> str:
    service, plan = record["service"], record["plan"]
    simulated = "" if service["engine"] == "vllm" else " **A simulated engine answered: nothing is said of a model.**"
    kinds, levels = ", ".join(plan["kinds"]), ", ".join(map(str, plan["levels"]))
    return f"""# The dials, measured

Whether each dial of the catalogue `{service["catalogue"]}` turns the answers of `{service["model"]}`, and by how
much.{simulated} {plan["prompts"]} {plan["prompt_set"]} prompts of {len(plan["kinds"])} kinds ({kinds}) ×
levels {levels} × {plan["seeds"]} seeds, {record["machine"]["cores"]} CPU cores. A program wrote this page from the
record ([results](../benchmarks/results)); what the dials are is in [api.md](api.md)."""


def _targets(targets: Sequence[Mapping[str, Any]]) -> str:
    met = sum(target["met"] is True for target in targets)
    missed = sum(target["met"] is False for target in targets)
    words = {True: "yes", False: "**no**", None: "not measured"}
    rows = [(each["knob"], each["what"], each["must"], each["figure"], words[each["met"]]) for each in targets]
    return f"""## What must be reached

{met} of {len(targets)} targets are met, {missed} are missed.

{table(("dial", "what", "must reach", "reached", "met"), rows)}

In brackets: 95% intervals, for ρ over prompts (bootstrap, 1,000 draws), for shares Wilson's."""


_PROMPTS = {
    HELD_OUT: "The curves were tuned on other prompts; nobody tuned on these, which are held out.",
    TUNING: "These are the prompts that the curves were tuned on, which flatters them.",
}


def _method(record: Mapping[str, Any], record_name: str) -> str:
    plan, configuration = record["plan"], record["configuration"]
    fixed = ", ".join(f"{name} {level}" for name, level in plan["fixed"].items())
    levels = len(plan["levels"])
    model = record["service"]["model"]
    return f"""## How it was measured

```sh
python -m benchmarks.controls --ablations --prompt-set {plan["prompt_set"]} --prompts {plan["prompts"]} \\
  --seeds {plan["seeds"]} --seed {plan["seed"]} --concurrency {configuration["concurrency"]} \\
  --json benchmarks/results/{record_name} --page docs/controls.md \\
  --out configs/calibration/{model}.json
```

It starts the service; `--url` takes one that runs, with any model. Answers are kept, so an interrupted run goes on.
`python -m benchmarks.controls.page RECORD` writes this page again.

- {_PROMPTS[plan["prompt_set"]]}
- In a sweep one dial moves; the others are set by hand: {fixed}. While
  creativity moves, depth is {plan["creativity_depth"]}, and each level has {plan["creativity_seeds"]} seeds a prompt;
  in a conversation each of its turns has {plan["creativity_turn_answers"]} answers.
  A prompt's seeds are the same at every level.
- ρ is Spearman's over all answers. The answers of a level tie, so with {levels} levels the highest possible is about
  {highest_spearman(levels):.3f}. Creativity's is over prompts and levels, for variety takes several answers.
- No yardstick is a lever: words are counted, CEFR levels come from cefrpy, FKGL from pyphen's syllables, casual marks
  from a list of their own, variety and relevance from MiniLM embeddings. Relevance: the cosine of question and answer,
  of which MiniLM sees the first 256 tokens.
- A graceful end: the answer ended by itself, and the truncation check found nothing.
- Forms are taken apart by parsers written from what the API promises, and count where the answer finished."""


def _versions(record: Mapping[str, Any]) -> str:
    named = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    service = record["service"]
    return f"""## Measured with

{named}; Python {record["machine"]["python"]}, {record["machine"]["cores"]} cores. `{service["system_fingerprint"]}`,
code `{service["code"]}`."""


if __name__ == "__main__":
    sys.exit(main())
