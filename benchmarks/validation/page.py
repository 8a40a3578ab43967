"""Writes ``docs/quality.md`` from a record: nothing on the page is typed by hand but the notes.

    python -m benchmarks.validation.page benchmarks/results/validation.json [--page docs/quality.md] [--traffic RECORD]

The record of ``benchmarks.validation.traffic``, where it exists, gives the page a section and pictures. ``notes.md``
beside this module, where it exists, holds what figures cannot say: what was tried, what is still missed.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.controls.markdown import table
from benchmarks.validation import sections
from benchmarks.validation.traffic.plots import draw_all
from benchmarks.validation.traffic.recording import RECORD as TRAFFIC
from benchmarks.validation.traffic.section import PICTURES, traffic_section
from graph.settings import PROJECT_ROOT

PAGE = PROJECT_ROOT / "docs" / "quality.md"
NOTES = Path(__file__).with_name("notes.md")


def main(argv: Sequence[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validation.page", description=__doc__.split("\n")[0])
    parser.add_argument("record", type=Path)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--traffic", type=Path, default=TRAFFIC, help="left out where missing (default: %(default)s)")
    options = parser.parse_args(argv)
    write_page(options.record, options.page, options.traffic)
    return 0


def write_page(record: Path, page: Path, traffic: Path = TRAFFIC) -> None:
    """Reads the record and, where it exists, that of real traffic; writes the page, and its pictures beside it."""
    notes = NOTES.read_text().strip() if NOTES.exists() else ""
    told = ""
    if traffic.exists():
        data = json.loads(traffic.read_text())
        told = traffic_section(data, draw_all(data, page.parent / PICTURES))
    page.write_text(compose(json.loads(record.read_text()), record.name, notes, told))


def compose(record: Mapping[str, Any], record_name: str, notes: str = "", traffic: str = "") -> str:
    """The page's text.

    Args:
        record: As ``recording.save_record`` wrote it, read back.
        record_name: The record's file name, for the command that repeats the run.
        notes: Markdown that goes in after the targets.
        traffic: The section about real traffic; empty: it was not recorded.
    """
    figures = record["figures"]
    found = figures["detection"]
    parts = [
        _opening(record),
        _targets(record["targets"]),
        notes,
        sections.defects(found),
        sections.kinds(found),
        sections.checks(found),
        sections.alarms(found),
        sections.misses(found),
        sections.real(figures["real"]) if "real" in figures else "",
        traffic,
        sections.repair(figures["repair"]),
        sections.streams(figures["streams"]),
        sections.served_streams(figures["served"]),
        sections.delays(figures["delays"]),
        sections.latency(figures["latency"]),
        _method(record, record_name),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _opening(record: Mapping[str, Any]) -> str:
    about = record["corpus"]
    records = about["records"]
    return f"""# The checks, measured

Whether the validator finds what is wrong, and leaves alone what is right: {records["clean"]} clean answers,
{records["hard"]} that only look wrong and {records["languages"]} in other languages, each clean one spoilt in every way
that fits it. Of the corpus this is the {about["half"]} half. A program wrote this page from the record
([results](../benchmarks/results))."""


def _targets(targets: Sequence[Mapping[str, Any]]) -> str:
    met = sum(target["met"] is True for target in targets)
    missed = sum(target["met"] is False for target in targets)
    words = {True: "yes", False: "**no**", None: "not measured"}
    rows = [(each["what"], each["must"], each["reached"], words[each["met"]]) for each in targets]
    return f"""## What must be reached

{met} of {len(targets)} targets are met, {missed} are missed.

{table(("what", "must reach", "reached", "met"), rows)}

In brackets: Wilson's 95% interval."""


def _method(record: Mapping[str, Any], record_name: str) -> str:
    about, configuration = record["corpus"], record["configuration"]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    machine = record["machine"]
    return f"""## How it was measured

```sh
python -m benchmarks.validation --half {about["half"]} --seed {configuration["seed"]} \\
  --streams {configuration["streams"]} --json benchmarks/results/{record_name} --page docs/quality.md
```

- The corpus is in `benchmarks/validation/corpus`. Checks may be tuned on its development half. The test half, below
  `test`, was written by others, on other subjects, who knew nothing of the checks, and is only measured.
- Defects are made from right answers by `benchmarks/validation`, with seeded randomness; broken language and needless
  refusals are written by hand.
- Real outputs were written by `python -m benchmarks.validation.raw` and labelled by the authors; a hash of its
  question's id puts an output into the half on which checks may be tuned, or into the other one.
- `python -m benchmarks.validation.page RECORD` writes this page again.

{versions}; Python {machine["python"]}, {machine["cores"]} cores. Checks `{about["code"]}`, texts `{about["texts"]}`."""


if __name__ == "__main__":
    sys.exit(main())
