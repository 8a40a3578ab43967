"""Prints the report of a chore of the log, compaction or shipping, for people or as JSON."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def print_report(title: str, report: Any, json_out: str | None) -> None:
    """Print a frozen record of counts as a table.

    Args:
        title: Of the table.
        report: A dataclass; tuples of texts in it are printed below.
        json_out: Where to write it as JSON too; ``-``: to the standard output, and no table.
    """
    fields = asdict(report)
    if json_out is not None:
        text = json.dumps(fields, indent=1) + "\n"
        if json_out == "-":
            sys.stdout.write(text)
            return
        Path(json_out).write_text(text, encoding="utf-8")
    console = Console()
    if fields.get("busy"):
        console.print(f"Another {title} of this log is at work; nothing was done.")
        return
    table = Table(title, "")
    table.columns[1].justify = "right"
    for name, value in fields.items():
        if type(value) in (int, float):
            shown = f"{value:,}" if type(value) is int else f"{value:.2f}"
            table.add_row(name.replace("_", " "), shown)
    console.print(table)
    for problem in fields.get("problems", ()):
        console.print(problem, style="yellow", markup=False)
