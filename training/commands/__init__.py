"""One module a command of ``python -m training``, with

- ``HELP``: one line,
- ``add_arguments(parser)``: its options,
- ``run(options, messages)``: does it; prints data to the standard output, and all else to ``messages``, a rich Console
  on the standard error; raises RheostatError or OSError.

All are imported for the help, so what is heavy (ray, torch, trl) is imported in ``run``.
"""


def flag(name: str) -> str:
    """The option of a parameter: ``eval_share`` is ``--eval-share``."""
    return "--" + name.replace("_", "-")
