"""``python -m training promote``: the challenger becomes champion, once every replica serves it."""

import argparse

from rich.console import Console

from deployments.rollout.operations import complete_name, current_challenger
from deployments.rollout.registry import Registry
from graph.errors import InvalidRequest
from training.rollout_options import add_change, ask, change

HELP = "make the challenger champion; done when every replica serves it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("adapter", nargs="?", default=None, help="its name or first digits; none: the challenger")
    parser.add_argument("--ungated", action="store_true", help="although no gate passed it; needs --reason")
    add_change(parser)


def run(options: argparse.Namespace, messages: Console) -> None:
    """Promote, and print the aliases and whether all agree as JSON.

    Raises:
        As `Operations.promote`; Unavailable: done, and not every replica serves it in time.
    """
    if options.url is not None:
        _over_http(options, messages)
        return
    registry = Registry(options.registry)
    version = registry.aliases().version if options.expected_version is None else options.expected_version
    adapter = current_challenger(registry) if options.adapter is None else complete_name(registry, options.adapter)
    change(
        options,
        messages,
        lambda do: do.promote(adapter, expected_version=version, reason=options.reason, ungated=options.ungated),
        "",
        {},
    )


def _over_http(options: argparse.Namespace, messages: Console) -> None:
    if options.ungated:
        raise InvalidRequest("--ungated is not for --url: past the gate only at the registry itself.", param="ungated")
    told = ask(options, "/v1/rollout")
    adapter = options.adapter or told.get("challenger")
    if adapter is None:
        raise InvalidRequest("There is no challenger now; name an adapter.", param="adapter")
    known = [name for name in (told.get("challenger"), told.get("previous")) if name and name.startswith(adapter)]
    adapter = known[0] if len(known) == 1 else adapter
    version = told.get("version") if options.expected_version is None else options.expected_version
    body = {"adapter": adapter, "expected_version": version}
    change(options, messages, lambda do: do.promote(adapter), "/v1/rollout/promote", body)
