"""The learning loop.

    python -m training curate [--log DIR | --rows FILE ...] [--out DIR]
    python -m training canary [ADAPTER] [--share X | --clear]
    python -m training promote [ADAPTER]
    python -m training rollback
    python -m training status

Data goes to the standard output, as JSON; all else to the standard error. Exit status: 0 done, 1 failed, 2 not possible
with these arguments or this feedback.

To add a command: a module in ``training/commands`` as its docstring says, and a line in `COMMANDS`.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Mapping
from types import MappingProxyType

from rich.console import Console

from graph.errors import InvalidRequest, RheostatError

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "cycle": "training.commands.cycle",
        "curate": "training.commands.curate",
        "train": "training.commands.train",
        "gate": "training.commands.gate",
        "canary": "training.commands.canary",
        "promote": "training.commands.promote",
        "rollback": "training.commands.rollback",
        "status": "training.commands.status",
    }
)
"""The module of each command, in the order of the help."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    given = sys.argv[1:] if argv is None else argv
    # The one that is asked for, if it is one: a rollback must not wait for what others import.
    names = given[:1] if given and given[0] in COMMANDS else list(COMMANDS)
    modules = {name: importlib.import_module(COMMANDS[name]) for name in names}
    parser = argparse.ArgumentParser(
        prog="python -m training", description="From feedback to a better model, and back."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in modules.items():
        module.add_arguments(
            commands.add_parser(
                name,
                help=module.HELP,
                description=module.HELP,
                formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            )
        )
    options = parser.parse_args(argv)
    messages = Console(stderr=True)
    try:
        modules[options.command].run(options, messages)
    except BrokenPipeError:
        # Whoever read us has enough; the interpreter's last flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except RheostatError as error:
        messages.print(error.message, style="red", markup=False, highlight=False)
        return 2 if isinstance(error, InvalidRequest) else 1
    except OSError as error:
        messages.print(f"{type(error).__name__}: {error}", style="red", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        messages.print("interrupted")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
