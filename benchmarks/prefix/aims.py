"""What the router must reach, on each mix of traffic and over Serve; what it missed, as texts. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.prefix.policies import PREFIX

LEAST_HITS = 0.9
"""Of those of one replica that gets all requests and has all caches as one."""
MOST_REQUESTS = 1.3
"""Of the busiest replica, as a multiple of the mean."""


def missed_simulated(by_mix: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """One text an aim that was missed.

    Args:
        by_mix: By mix and policy, ``hits_of_one`` and ``busiest``.
    """
    return [text for mix, by_policy in by_mix.items() for text in _missed(mix, by_policy[PREFIX])]


def missed_live(by_router: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The same over Serve, where no request of any router may fail either.

    Args:
        by_router: ``hits_of_one``, ``busiest`` and ``failed``.
    """
    failed = [f"{name}: {each['failed']} requests failed" for name, each in by_router.items() if each["failed"]]
    return [*_missed("live", by_router[PREFIX]), *failed]


def _missed(where: str, figures: Mapping[str, Any]) -> Iterator[str]:
    if figures["hits_of_one"] < LEAST_HITS:
        yield f"{where}: {figures['hits_of_one']:.3f} of one replica's hits, expected at least {LEAST_HITS}"
    if figures["busiest"] > MOST_REQUESTS:
        yield f"{where}: the busiest replica has {figures['busiest']:.2f} of the mean, expected at most {MOST_REQUESTS}"
