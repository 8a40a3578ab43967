"""Whether a Ray cluster has room for the workers of a training: Ray itself would wait for ever, and say nothing.

Amounts are Ray's resources by name, such as ``{"CPU": 4.0, "GPU": 1.0}``; one that is not named is not there.
"""

from collections.abc import Mapping

from graph.errors import ConfigurationError


def find_wait(
    workers: int, per_worker: Mapping[str, float], total: Mapping[str, float], free: Mapping[str, float]
) -> str | None:
    """Return what the workers will have to wait for, as a sentence for people; None: all of it is free now.

    Args:
        per_worker: What each worker holds.
        total: What the cluster has, free or not.
        free: What of it nobody holds now.

    Raises:
        ConfigurationError: The cluster has less than they need, so they could never begin.
    """
    asked = {name: workers * amount for name, amount in per_worker.items()}
    if any(total.get(name, 0) < amount for name, amount in asked.items()):
        raise ConfigurationError(
            f"The training asks for {_listed(asked, asked)} (workers: {workers}), and this Ray cluster has "
            f"{_listed(total, asked)} in all; train with fewer workers (0: in this process), or on another cluster."
        )
    awaited = {name: amount for name, amount in asked.items() if free.get(name, 0) < amount}
    if not awaited:
        return None
    found = " and ".join(f"{free.get(name, 0):g}" for name in awaited)
    return f"Waiting for {_listed(awaited, awaited)}; free now: {found}. Other jobs of the cluster hold them."


def _listed(amounts: Mapping[str, float], names: Mapping[str, float]) -> str:
    listed = ((name, amounts.get(name, 0)) for name in names)
    return " and ".join(f"{amount:g} {name}{'' if amount == 1 else 's'}" for name, amount in listed)
