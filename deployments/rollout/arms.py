"""Which arm of a canary answers a request: sticky, without any memory. Pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from deployments.rollout.adapter_store import BASE
from deployments.rollout.aliases import Aliases
from graph.contracts import Message
from graph.errors import InvalidRequest

Arm = Literal["champion", "challenger"]
ARMS: tuple[Arm, ...] = get_args(Arm)
_BITS = 53
"""As many as a float holds: with more, a place could round to 1, and a share of 1 would not take everybody."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who answers a request."""

    arm: Arm
    adapter: str | None
    """Its name; None: the base model."""


def assign_arm(aliases: Aliases, unit: str) -> Assignment:
    """Return the arm of one unit: the same while the canary lasts, and also when its share grows.

    Args:
        unit: What sticks together: a person, or a conversation (see `unit_of`).
    """
    if aliases.challenger is not None and _place(aliases.challenger, unit) < aliases.share:
        return chosen_arm(aliases, "challenger")
    return chosen_arm(aliases, "champion")


def chosen_arm(aliases: Aliases, arm: Arm) -> Assignment:
    """Return this arm, whatever its share is.

    Raises:
        InvalidRequest: There is no challenger.
    """
    if arm == "champion":
        return Assignment(arm, None if aliases.champion == BASE else aliases.champion)
    if aliases.challenger is None:
        raise InvalidRequest("There is no challenger now; ask for the champion, or for no arm.", param="x-rheostat-arm")
    return Assignment(arm, aliases.challenger)


def unit_of(tenant: str, person: str | None, messages: Sequence[Message]) -> str:
    """Return what a request's arm sticks to: who asks, else the conversation, known by how it began."""
    if person is not None:
        return f"{tenant}\0person\0{person}"
    first_user = next((at for at, message in enumerate(messages) if message.role == "user"), len(messages) - 1)
    begun = "\0".join(f"{message.role}\0{message.content}" for message in messages[: first_user + 1])
    return f"{tenant}\0conversation\0{begun}"


def _place(challenger: str, unit: str) -> float:
    """From 0 to below 1. By the challenger's name too: else the same persons would try out every one."""
    digest = hashlib.sha256(f"{challenger}\0{unit}".encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> (64 - _BITS)) / float(2**_BITS)
