"""``python -m training rollback``: the previous champion serves again, in a second."""

import argparse

from rich.console import Console

from training.rollout_options import add_change, change

HELP = "serve the previous champion again; done when every replica does"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_change(parser)


def run(options: argparse.Namespace, messages: Console) -> None:
    """Roll back, and print the aliases and whether all agree as JSON.

    Raises:
        As `Operations.roll_back`; Unavailable: done, and not every replica serves it in time.
    """
    change(
        options,
        messages,
        lambda do: do.roll_back(expected_version=options.expected_version, reason=options.reason),
        "/v1/rollout/rollback",
        {},
    )
