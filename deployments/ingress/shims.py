"""What the shims for other services' feedback share: our event for a metric's value, and errors in their words.

Pure. ``tensorzero.py`` and ``langfuse.py`` translate with it; nothing here stores or looks anything up.
"""

from collections.abc import Mapping
from typing import Any

from deployments.feedback.contracts import MetricContract, list_names
from graph.errors import InvalidRequest, RheostatError


def find_contract(name: str, param: str, contracts: Mapping[str, MetricContract]) -> MetricContract:
    """The metric called ``name``.

    Args:
        param: What the sender calls the field.

    Raises:
        InvalidRequest: There is none; names those there are.
    """
    contract = contracts.get(name)
    if contract is None:
        known = list_names(list(contracts))
        raise InvalidRequest(f"'{param}' is {name[:64]!r}, not a known metric; known: {known}.", param=param)
    return contract


def value_event(contract: MetricContract, value: object) -> dict[str, Any]:
    """The part of our event that says ``value`` of a metric; whether it fits is for the event's own checks.

    An implicit signal that only happens, such as copied, is said with true.
    """
    if contract.kind == "implicit" and contract.lowest is None and value is True:
        value = None
    return {"kind": contract.kind, "name": contract.name, "value": value}


def in_their_words(error: RheostatError, names: Mapping[str, str]) -> RheostatError:
    """``error`` with our field names replaced by the sender's.

    Args:
        names: Theirs by ours.
    """
    param, message = error.param, error.message
    if param is None:
        return error
    ours, dot, rest = param.partition(".")
    if ours not in names:
        return error
    theirs = names[ours] + dot + rest
    return type(error)(message.replace(f"'{param}'", f"'{theirs}'", 1), theirs, error.code)
