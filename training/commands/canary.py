"""``python -m training canary``: give a challenger a share of the traffic, or take it away."""

import argparse

from rich.console import Console

from deployments.rollout.operations import complete_name, current_challenger
from deployments.rollout.registry import Registry
from graph.errors import InvalidRequest
from training.rollout_options import add_change, ask, change

HELP = "give the challenger a share of the traffic, or take it away"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("adapter", nargs="?", default=None, help="its name or first digits; none: the challenger")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--share", type=float, default=0.01, metavar="X", help="of the traffic, from 0 to 1")
    what.add_argument("--clear", action="store_true", help="take the challenger away")
    add_change(parser)


def run(options: argparse.Namespace, messages: Console) -> None:
    """Change the share, and print the aliases and whether all agree as JSON.

    Raises:
        As `Operations.canary` and `Operations.clear`; Unavailable: done, and not every replica serves it in time.
    """
    decided = {"expected_version": options.expected_version, "reason": options.reason}
    path = "/v1/rollout/canary"
    if options.clear:
        if options.adapter is not None:
            raise InvalidRequest("--clear takes the challenger away, whatever its name; leave the adapter out.")
        change(options, messages, lambda do: do.clear(**decided), path, {"adapter": None})
        return
    adapter = _adapter_over_http(options) if options.url is not None else _adapter_here(options)
    body = {"adapter": adapter, "share": options.share}
    change(options, messages, lambda do: do.canary(adapter, options.share, **decided), path, body)


def _adapter_here(options: argparse.Namespace) -> str:
    registry = Registry(options.registry)
    return current_challenger(registry) if options.adapter is None else complete_name(registry, options.adapter)


def _adapter_over_http(options: argparse.Namespace) -> str:
    if options.adapter is not None:
        return str(options.adapter)
    challenger = ask(options, "/v1/rollout").get("challenger")
    if challenger is None:
        raise InvalidRequest("There is no challenger now; name an adapter.", param="adapter")
    return str(challenger)
