"""``python -m training status``: which adapter is served, by whom, and how the canary does."""

import argparse
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from deployments.rollout.operations import Operations
from training.rollout_options import add_place, ask, short

HELP = "show which adapter is served, by whom, and how the canary does"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_place(parser)


def run(options: argparse.Namespace, messages: Console) -> None:
    """Print the aliases, replicas, last changes and, with ``--url``, what was counted of the canary, as JSON.

    Raises:
        InternalError: The aliases are damaged.
    """
    told = Operations(options.registry, "", 0).status() if options.url is None else ask(options, "/v1/rollout")
    print(json.dumps(told), flush=True)
    if told.get("problem"):
        messages.print(told["problem"], style="red", markup=False, highlight=False)
        return
    messages.print(_aliases(told))
    if told["adapters"]:
        messages.print(_known(told["adapters"]))
    if told["replicas"]:
        messages.print(_replicas(told))
    watch = told.get("watch") or {}
    if watch.get("problem"):
        messages.print(watch["problem"], style="yellow", markup=False, highlight=False)
    if watch.get("canary"):
        _show_canary(watch["canary"], messages)
    if told["changes"]:
        messages.print(_changes(told["changes"]))


def _aliases(told: Mapping[str, Any]) -> Table:
    table = Table(title=f"version {told['version']}", title_justify="left")
    for name in ("alias", "adapter", "note"):
        table.add_column(name)
    gate = told["challenger_gate"]
    judged = "no gate yet" if gate is None else "its gate passed" if gate["passed"] else "its gate did not pass"
    since = "" if told["champion_since_us"] is None else f"since {_time(told['champion_since_us'])}"
    table.add_row("champion", short(told["champion"]), since)
    table.add_row(
        "challenger", short(told["challenger"]), f"share {told['share']:g}, {judged}" if told["challenger"] else ""
    )
    table.add_row("previous", short(told["previous"]), "was taken back" if told["rolled_back"] else "")
    return table


def _known(adapters: list[Mapping[str, Any]]) -> Table:
    table = Table("adapter", "made", "dataset", "last gate", title="adapters, newest first", title_justify="left")
    for each in adapters:
        gate = {None: "none", True: "passed", False: "did not pass"}[each["passed"]]
        table.add_row(short(each["name"]), _time(each["created_us"]), short(each["dataset"]), gate)
    return table


def _replicas(told: Mapping[str, Any]) -> Table:
    title = "all replicas agree" if told["agreed"] else f"not yet: {'; '.join(told['waiting'])}"
    table = Table("replica", "version", "loaded", title=title, title_justify="left")
    for replica in told["replicas"]:
        table.add_row(replica["id"], str(replica["version"]), ", ".join(map(short, replica["loaded"])))
    return table


def _show_canary(canary: Mapping[str, Any], messages: Console) -> None:
    title = f"canary {short(canary['challenger'])}, stage {canary['stage']}, share {canary['share']:g}"
    table = Table("signal", "champion", "canary", "difference", "surely from", "to", title=title, title_justify="left")
    for name, signal in canary["signals"].items():
        bounds = ("" if signal[key] is None else f"{signal[key]:+.3f}" for key in ("difference", "low", "high"))
        arms = (f"{signal[f'{arm}_failures']} of {signal[f'{arm}_answers']}" for arm in ("champion", "canary"))
        table.add_row(name, *arms, *bounds)
    messages.print(table)
    for text in (canary["reason"], canary["held"]):
        if text:
            messages.print(text, markup=False, highlight=False)


def _changes(changes: list[Mapping[str, Any]]) -> Table:
    table = Table("version", "when", "what", "adapter", "by", "reason", title="last changes", title_justify="left")
    for change in changes:
        table.add_row(
            str(change["version"]),
            _time(change["at_us"]),
            change["action"] + (f" {change['share']:g}" if change["action"] == "set_share" else ""),
            short(change["adapter"]),
            change["by"],
            change["reason"],
        )
    return table


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")
