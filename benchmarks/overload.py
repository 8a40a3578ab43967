"""Does goodput stay flat when far more comes than the service can answer, and is all well again soon afterwards?

    python -m benchmarks.overload [--loads 2 5 10] [--places 16] [--seconds 40] [--soak 600] [--json OUT] [--plot]

Starts the service itself, on a simulated engine that answers at the pace of a GPU and with so few places that its
capacity is known.

- peak: clients of which each asks again as soon as it has its answer; the best of several numbers of clients.
- each load: calm (0.7 of the peak), then so many times the peak, then calm again. Calls come as a Poisson process,
  whether or not earlier ones were answered, and retry as OpenAI's SDKs do.
- soak: twice the peak, for long, with the memory of the ingress.

An answer is good when it is whole, within the deadline of the request that got it. Recovery is the time from the end
of the overload until every later call is answered and takes no more than 1.5 times as long as before, in the median of
each second. The clients are one process on the same cores, so their own cost is in every figure; ``behind`` tells how
late they sent what was due.
"""

import argparse
import asyncio
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.overload_client import RETRIES, Call, Pool, Sdk
from benchmarks.record import quantile, write_record
from benchmarks.service import Running, running
from benchmarks.streams import run
from graph.settings import PROJECT_ROOT

MODEL = "smollm2-135m-instruct"
ENGINE = {"first_token_s": 0.05, "token_s": 0.02}
"""50 tokens a second; answers have 40 to 120."""
CALM = 0.7
CALM_BEFORE_S, CALM_AFTER_S = 8.0, 15.0
LIKE_BEFORE = 1.5
"""A median that is no more than this times the one before the overload counts as normal."""
TARGETS = {"refused_p99_ms": 50.0, "recovery_s": 5.0}
MIB = 1 << 20


def least_ratio(load: float) -> float:
    """Of the peak: the goodput that is asked for."""
    return 0.95 if load <= 2 else 0.90


def goodput(calls: Sequence[Call], begin: float, end: float, deadline_s: float) -> float:
    """Good answers a second, of those that came in that time."""
    good = sum(call.is_good(deadline_s) and begin <= call.tries[-1].ended < end for call in calls)
    return good / (end - begin)


def recovery_s(calls: Sequence[Call], end: float, normal_s: float, deadline_s: float) -> float | None:
    """Seconds from ``end`` until all calls are good, and each second's median is like ``normal_s``; None: they never
    are."""
    seconds: dict[int, list[Call]] = {}
    recovered = 0.0
    for call in calls:
        if call.due >= end:
            seconds.setdefault(int(call.due - end), []).append(call)
            if not call.is_good(deadline_s):
                recovered = max(recovered, call.due - end)
    for second, here in seconds.items():
        if quantile([call.total_s for call in here], 0.5) > LIKE_BEFORE * normal_s:
            recovered = max(recovered, second + 1.0)
    return round(recovered, 1) if seconds and recovered <= max(seconds) else None


@contextmanager
def watched(service: Running, every_s: float = 0.5) -> Iterator[list[tuple[float, float]]]:
    """Memory of the ingress while the block runs: time and MiB."""
    seen: list[tuple[float, float]] = []
    stop = threading.Event()
    processes = service.replicas("Ingress")

    def look() -> None:
        while not stop.wait(every_s):
            seen.append((time.perf_counter(), sum(process.memory_info().rss for process in processes) / MIB))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


async def find_peak(service: Running, options: argparse.Namespace) -> dict[str, Any]:
    """The most good answers a second that clients get who wait for each answer."""
    found = {}
    with closing(Pool(service.url)) as pool:
        await Sdk(pool, MODEL, options.deadline, 0).keep_asking(options.places, 5.0)  # warm-up
        for share in (1.0, 1.25, 1.5):
            clients = round(share * options.places)
            sdk = Sdk(pool, MODEL, options.deadline, clients)
            began = time.perf_counter()
            await sdk.keep_asking(clients, options.seconds / 2)
            # The first and the last answers are of a service that is not full.
            begin, end = began + 2.0, began + options.seconds / 2
            found[clients] = round(goodput(sdk.calls, begin, end, options.deadline), 2)
    clients = max(found, key=lambda number: found[number])
    return {"clients": clients, "goodput_per_s": found[clients], "tried": found}


async def overload(service: Running, options: argparse.Namespace, load: float, peak: float) -> dict[str, Any]:
    """Calm, overload, calm; figures of one load."""
    with closing(Pool(service.url)) as pool:
        sdk = Sdk(pool, MODEL, options.deadline, round(load * 100))
        tasks = await sdk.arrive(CALM * peak, CALM_BEFORE_S)
        begin = time.perf_counter()
        tasks += await sdk.arrive(load * peak, options.seconds)
        end = time.perf_counter()
        tasks += await sdk.arrive(CALM * peak, CALM_AFTER_S)
        await asyncio.gather(*tasks)
    return figures_of(sdk.calls, begin, end, options.deadline, peak)


def figures_of(calls: Sequence[Call], begin: float, end: float, deadline_s: float, peak: float) -> dict[str, Any]:
    """What one run of calm, overload from ``begin`` to ``end``, and calm was like."""
    during = [call for call in calls if begin <= call.due < end]
    tries = [each for call in during for each in call.tries]
    accepted = [each.took_s for each in tries if each.status == 200]
    refused = [each.took_s for each in tries if each.status == 429]
    before = [call.total_s for call in calls if call.due < begin and call.is_good(deadline_s)]
    statuses = sorted({each.status for each in tries})
    good = goodput(calls, begin, end, deadline_s)
    return {
        "calls": len(during),
        "requests": len(tries),
        "statuses": {str(status): sum(each.status == status for each in tries) for status in statuses},
        "offered_per_s": round(len(during) / (end - begin), 1),
        "requests_per_s": round(len(tries) / (end - begin), 1),
        "goodput_per_s": round(good, 2),
        "ratio": round(good / peak, 3),
        "answered_share": round(sum(call.is_good(deadline_s) for call in during) / len(during), 3),
        "accepted_p50_s": round(quantile(accepted, 0.5), 2),
        "accepted_p99_s": round(quantile(accepted, 0.99), 2),
        "refused_p50_ms": round(quantile(refused, 0.5) * 1e3, 1) if refused else None,
        "refused_p99_ms": round(quantile(refused, 0.99) * 1e3, 1) if refused else None,
        "normal_p50_s": round(quantile(before, 0.5), 2),
        "recovery_s": recovery_s(calls, end, quantile(before, 0.5), deadline_s),
        "behind_p99_ms": round(quantile([call.tries[0].sent - call.due for call in calls], 0.99) * 1e3, 1),
    }


async def soak(service: Running, options: argparse.Namespace, peak: float) -> dict[str, Any]:
    """Twice the peak for long: goodput, and the memory of the ingress in the first and the last tenth of the time."""
    with watched(service) as seen, closing(Pool(service.url)) as pool:
        sdk = Sdk(pool, MODEL, options.deadline, 7)
        begin = time.perf_counter()
        tasks = await sdk.arrive(2 * peak, options.soak)
        end = time.perf_counter()
        await asyncio.gather(*tasks)
    tenth = (end - begin) / 10
    # The second tenth: in the first one the process still grows to its working size.
    early = [mib for at, mib in seen if begin + tenth <= at < begin + 2 * tenth]
    late = [mib for at, mib in seen if end - tenth <= at < end]
    return {
        "seconds": options.soak,
        "ratio": round(goodput(sdk.calls, begin, end, options.deadline) / peak, 3),
        "rss_early_mib": round(quantile(early, 0.5), 1),
        "rss_late_mib": round(quantile(late, 0.5), 1),
        "rss_by_minute_mib": [
            round(max((mib for at, mib in seen if begin + t <= at < begin + t + 60), default=0.0), 1)
            for t in range(0, int(options.soak), 60)
        ],
    }


def missed(figures: Mapping[str, Any], deadline_s: float) -> list[str]:
    """What is not as it should be, in words."""
    found = []
    for load, one in figures["loads"].items():
        if one["ratio"] < (least := least_ratio(float(load))):
            found.append(f"{load}x: goodput is {one['ratio']} of the peak; at least {least} is asked for")
        if one["accepted_p99_s"] > deadline_s:
            found.append(f"{load}x: p99 of the accepted is {one['accepted_p99_s']} s; the deadline is {deadline_s:g}")
        for name, most in TARGETS.items():
            if (one[name] or 0.0) > most:
                found.append(f"{load}x: {name} is {one[name]}; at most {most:g} is asked for")
        if one["recovery_s"] is None:
            found.append(f"{load}x: it was not as before within {CALM_AFTER_S:g} s after the overload")
        if odd := set(one["statuses"]) - {"200", "429", "504"}:
            found.append(f"{load}x: answers other than 200, 429 and 504: {', '.join(sorted(odd))}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__.split("\n")[0])
    parser.add_argument("--loads", type=float, nargs="+", default=[2.0, 5.0, 10.0], help="times the peak")
    parser.add_argument("--places", type=int, default=16, help="max_inflight_choices")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each overload")
    parser.add_argument("--deadline", type=float, default=10.0, help="seconds, of each request")
    parser.add_argument("--soak", type=float, default=600.0, help="seconds of twice the peak; 0: leave that part out")
    parser.add_argument("--proxy", default="auto", help="as of graph.launch")
    parser.add_argument("--json", type=Path, help="write the figures, versions and machine here")
    parser.add_argument("--plot", action="store_true", help="draw docs/pictures/overload")
    options = parser.parse_args()
    console = Console(stderr=True)
    ingress = {"max_inflight_choices": options.places}
    with (
        console.status("starting the service") as status,
        running({"engine": {"kind": "simulated", "simulated": ENGINE}}, {"Ingress": ingress}, options.proxy) as service,
    ):
        status.update("finding the peak")
        peak = run(find_peak(service, options))
        figures: dict[str, Any] = {"peak": peak, "loads": {}}
        for load in options.loads:
            status.update(f"{load:g} times the peak of {peak['goodput_per_s']:g} answers a second")
            figures["loads"][f"{load:g}"] = run(overload(service, options, load, peak["goodput_per_s"]))
        if options.soak:
            status.update(f"soaking for {options.soak:g} s")
            figures["soak"] = run(soak(service, options, peak["goodput_per_s"]))
    if options.json:
        configuration = {
            "engine": {"kind": "simulated", **ENGINE},
            "Ingress": ingress,
            "retries": RETRIES,
            "calm": CALM,
            **{name: getattr(options, name) for name in ("seconds", "deadline", "soak", "proxy")},
        }
        write_record(options.json, "overload", configuration, figures, ("ray", "httptools", "uvloop"))
    if options.plot:
        from benchmarks.overload_plots import draw_overload

        draw_overload(figures, PROJECT_ROOT / "docs/pictures")
    wrong = missed(figures, options.deadline)
    for text in wrong:
        print(f"missed: {text}", file=sys.stderr)
    Console(width=140).print(_table(figures, options))
    return 1 if wrong else 0


def _table(figures: Mapping[str, Any], options: argparse.Namespace) -> Table:
    peak = figures["peak"]
    title = (
        f"overload: peak {peak['goodput_per_s']} answers/s at {options.places} places, deadline {options.deadline:g} s"
    )
    table = Table(title=f"{title} (simulated engine)")
    columns = {
        "load": None,
        "calls/s": "offered_per_s",
        "requests/s": "requests_per_s",
        "goodput/s": "goodput_per_s",
        "of the peak": "ratio",
        "accepted p50 s": "accepted_p50_s",
        "p99 s": "accepted_p99_s",
        "refused p50 ms": "refused_p50_ms",
        "p99 ms": "refused_p99_ms",
        "recovery s": "recovery_s",
        "behind p99 ms": "behind_p99_ms",
    }
    for column in columns:
        table.add_column(column, justify="right")
    for load, one in figures["loads"].items():
        table.add_row(f"{load}x", *("-" if one[name] is None else str(one[name]) for name in columns.values() if name))
    if soaked := figures.get("soak"):
        rss = f"ingress {soaked['rss_early_mib']} -> {soaked['rss_late_mib']} MiB in {soaked['seconds']:g} s"
        table.caption = f"soak at 2x: {soaked['ratio']} of the peak, {rss}"
    return table


if __name__ == "__main__":
    sys.exit(main())
