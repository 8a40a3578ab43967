"""The classes that requests wait in. The class belongs to the API key: a request cannot choose it."""

from typing import Literal, get_args

Priority = Literal["interactive", "standard", "batch"]
"""interactive: somebody waits for the first word. standard: what a key has that says nothing. batch: nobody waits."""
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
"""Served in this order."""
DEFAULT_PRIORITY: Priority = "standard"
