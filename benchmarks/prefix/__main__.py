"""Do prompts find their beginnings in the prefix caches of several replicas, and is none of these overrun? Simulated.

    python -m benchmarks.prefix [--requests 6000] [--seeds 3] [--replicas 4] [--json OUT] [--pictures FOLDER]
    python -m benchmarks.prefix --live [--proxy haproxy] [--requests 2400] [--json OUT] [--pictures FOLDER]

The first needs no service: made-up traffic on replicas of its own, in seconds (`simulation.py`). Rheostat's own
placement is compared with halves of itself and with what Ray Serve ships, on five mixes of traffic. *hits* is the share
of prompt tokens that were cached, over that of ONE replica that gets all requests and has all replicas' caches as one:
1 is as if the replicas shared a memory. *busiest* is the replica with the most requests, as a multiple of the mean.
Both are means over the seeds; the record has the worst too. Exits with 1 where `prefix` misses 0.9 of the hits or has a
busiest replica beyond 1.3, on any mix.

The second asks the running graph over HTTP: Ray Serve with that many Generators, whose simulated engines have the same
caches, routed by prefix, by Serve's default and by its ``ConsistentHashRouter``; and one Generator with all caches as
one. Exits with 1 for the same reasons, or where a request failed. Both print the table last.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.prefix.aims import missed_live, missed_simulated
from benchmarks.prefix.live import measure_live
from benchmarks.prefix.plots import draw_live, draw_simulated
from benchmarks.prefix.policies import ALL_CACHES, ONE_CACHE, PREFIX, OnlyOne, all_policies
from benchmarks.prefix.simulation import Figures, prompts_of, simulate
from benchmarks.prefix.traffic import Mix, conversations
from benchmarks.record import write_record
from deployments.generator.placement import Placement, PlacementSettings, ReplicaLoad
from deployments.generator.simulated_cache import SimulatedCache
from deployments.ingress.prefix_key import prefix_key
from graph.contracts import PrefixKey

MIXES: Mapping[str, tuple[Mix, int]] = {
    "mixed": (Mix(), 2000),
    "one assistant": (Mix(chats=0.9, calls=0.0, assistants=1, tenants=1), 2000),
    "many applications": (Mix(chats=0.2, calls=0.7, applications=200, zipf=0.9), 1000),
    "quiet": (Mix(requests_per_s=2.0, reads_s=30.0), 2000),
    "busy": (Mix(requests_per_s=60.0, reads_s=5.0), 2000),
}
"""By name: the traffic, and the blocks of one replica's cache, which is less than all of it needs."""
BLOCK_TOKENS = 32
FIRST_SEED = 101
"""Not among the seeds 1 to 6, on which the defaults of ``PlacementSettings`` were chosen."""
MAX_ONGOING = 256
COST_REPLICAS = (1, 8, 64)


def main(argv: Sequence[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prefix", description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=None, help="default 6000, or 2400 with --live")
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--routers", type=int, default=2, help="ingress replicas, each of which knows its own requests")
    parser.add_argument("--seeds", type=int, default=3, help=f"how many, from {FIRST_SEED} on; --live uses the first")
    parser.add_argument("--live", action="store_true", help="start the service and ask it over HTTP")
    parser.add_argument("--proxy", default="auto", choices=("auto", "haproxy", "python"), help="with --live")
    parser.add_argument("--json", type=Path, help="write the figures, versions and machine here")
    parser.add_argument("--pictures", type=Path, help="draw the figures into this folder")
    options = parser.parse_args(argv)
    return _live(options) if options.live else _simulated(options)


def _simulated(options: argparse.Namespace) -> int:
    requests = options.requests or 6000
    figures = {
        name: _summary(
            [
                _measure(mix, blocks, requests, options.replicas, options.routers, seed)
                for seed in range(FIRST_SEED, FIRST_SEED + options.seeds)
            ]
        )
        for name, (mix, blocks) in MIXES.items()
    }
    cost = {"key": _key_us(), "choice": {str(count): _choice_us(count) for count in COST_REPLICAS}}
    if options.json:
        configuration = {
            "requests": requests,
            "replicas": options.replicas,
            "routers": options.routers,
            "seeds": [FIRST_SEED, FIRST_SEED + options.seeds - 1],
            "block_tokens": BLOCK_TOKENS,
            "placement": PlacementSettings().model_dump(),
            "mixes": {name: {**asdict(mix), "blocks": blocks} for name, (mix, blocks) in MIXES.items()},
        }
        write_record(options.json, "prefix", configuration, {"mixes": figures, "us": cost}, simulated=True)
    table = Table(
        title=f"{options.replicas} prefix caches (simulated): hits / those of one big cache, busiest replica / mean",
        caption=f"microseconds a request: key {cost['key']}; choice, by replicas: {cost['choice']}",
    )
    table.add_column("policy", no_wrap=True)
    for name in MIXES:
        table.add_column(f"{name},\n{figures[name][PREFIX]['at_once']:.0f} at once", justify="right")
    for policy in next(iter(figures.values())):
        rows = [by_mix[policy] for by_mix in figures.values()]
        busiest = ["   -" if policy in (ALL_CACHES, ONE_CACHE) else f"{row['busiest']:.2f}" for row in rows]
        hits = [f"{row['hits_of_one']:.2f}" for row in rows]
        table.add_row(policy, *(f"{shown}  {load}" for shown, load in zip(hits, busiest, strict=True)))
    if options.pictures:
        draw_simulated(figures, options.pictures)
    Console(width=140).print(table)
    return _told(missed_simulated(figures))


def _told(missed: Sequence[str]) -> int:
    """The exit status."""
    for text in missed:
        print(f"missed: {text}", file=sys.stderr)
    return 1 if missed else 0


def _measure(mix: Mix, blocks: int, requests: int, replicas: int, routers: int, seed: int) -> dict[str, Figures]:
    """By policy, and of one replica: "all caches" with those of all, "one cache" with its own."""
    cache = SimulatedCache(blocks=blocks, block_tokens=BLOCK_TOKENS)
    made = [
        (conversation.starts_s, prompts_of(conversation, number, BLOCK_TOKENS))
        for number, conversation in enumerate(conversations(mix, requests, seed))
    ]
    all_caches = SimulatedCache(blocks=blocks * replicas, block_tokens=BLOCK_TOKENS)
    policies = all_policies(_names(replicas, seed), PlacementSettings(), MAX_ONGOING, seed)
    return {
        ALL_CACHES: simulate(made, OnlyOne, 1, all_caches, 1),
        ONE_CACHE: simulate(made, OnlyOne, 1, cache, 1),
        **{name: simulate(made, make, replicas, cache, routers) for name, make in policies.items()},
    }


def _summary(by_seed: Sequence[Mapping[str, Figures]]) -> dict[str, dict[str, float]]:
    """By policy the means over the seeds, and the worst."""
    summary = {}
    for name in by_seed[0]:
        found = [figures[name] for figures in by_seed]
        hits_of_one = [figures[name].hits / figures[ALL_CACHES].hits for figures in by_seed]
        summary[name] = {
            "hits": round(statistics.fmean(each.hits for each in found), 4),
            "hits_of_one": round(statistics.fmean(hits_of_one), 4),
            "worst_hits_of_one": round(min(hits_of_one), 4),
            "busiest": round(statistics.fmean(each.busiest for each in found), 3),
            "worst_busiest": round(max(each.busiest for each in found), 3),
            "busiest_at_once": round(statistics.fmean(each.busiest_at_once for each in found), 3),
            "at_once": round(statistics.fmean(each.at_once for each in found), 1),
        }
    return summary


def _names(replicas: int, seed: int) -> list[str]:
    """As Serve's ids of replicas look."""
    rng = random.Random(seed)
    return ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=8)) for _ in range(replicas)]


def _key_us() -> float:
    """Microseconds of making a request's key, at p50 of the mixed traffic's first turns."""
    times = []
    for conversation in conversations(Mix(), 1000, FIRST_SEED):
        sent = conversation.messages(0, ())
        began = time.perf_counter()
        prefix_key(sent, conversation.tenant, None)
        times.append((time.perf_counter() - began) * 1e6)
    return round(statistics.median(times), 1)


def _choice_us(replicas: int) -> float:
    """Microseconds of choosing a request's replica: the best of five means over 2,000 choices in a loop."""
    rng = random.Random(FIRST_SEED)
    placement = Placement(PlacementSettings())
    known = [ReplicaLoad(name, 8, MAX_ONGOING) for name in _names(replicas, FIRST_SEED)]
    keys = [PrefixKey(rng.getrandbits(64), rng.getrandbits(64)) for _ in range(2000)]
    means = []
    for _ in range(5):
        began = time.perf_counter()
        for key in keys:
            placement.count(key)
            placement.rank(key, known)
        means.append((time.perf_counter() - began) / len(keys) * 1e6)
    return round(min(means), 1)


def _live(options: argparse.Namespace) -> int:
    mix, blocks = MIXES["mixed"]
    cache = SimulatedCache(blocks=blocks, block_tokens=BLOCK_TOKENS)
    requests = options.requests or 2400
    figures = measure_live(mix, cache, requests, options.replicas, options.routers, FIRST_SEED, options.proxy)
    if options.json:
        configuration = {
            "requests": requests,
            "replicas": options.replicas,
            "routers": options.routers,
            "seed": FIRST_SEED,
            "proxy": options.proxy,
            "cache": cache.model_dump(),
            "placement": PlacementSettings().model_dump(),
            "mix": asdict(mix),
        }
        write_record(options.json, "prefix-live", configuration, figures, ("ray",), simulated=True)
    table = Table(title=f"prefix caches of {options.replicas} replicas over Ray Serve (simulated engine)")
    for column in ("routed by", "requests", "failed", "hits", "hits / those of one", "busiest / mean", "answers/s"):
        table.add_column(column, justify="left" if column == "routed by" else "right")
    for name, each in figures.items():
        table.add_row(
            name,
            str(each["requests"]),
            str(each["failed"]),
            f"{each['hits']:.3f}",
            f"{each['hits_of_one']:.2f}",
            f"{each['busiest']:.2f}",
            f"{each['answers_per_s']:.1f}",
        )
    if options.pictures:
        draw_live(figures, options.pictures)
    Console(width=140).print(table)
    return _told(missed_live(figures))


if __name__ == "__main__":
    sys.exit(main())
