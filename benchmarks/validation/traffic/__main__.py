"""What becomes of real answers: 500 of them through the running graph, with random dials, half of them streamed.

    python -m benchmarks.validation.traffic [--url http://127.0.0.1:8000] [--count 500] [--seed 1] [--concurrency 32]
                                            [--json benchmarks/results/validation-traffic-smollm2-135m.json]

Without --url it starts the service itself, as it is shipped. Writes the figures to --json, and beside it every answer,
a line each, without its text. Prints a table last; the exit status is 1 if a request was not answered.
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.controls.asking import Facts, connect, read_facts
from benchmarks.controls.progress import Meter, showing
from benchmarks.controls.serving import service_url
from benchmarks.validation.corpus import Record, load_corpus
from benchmarks.validation.shipped import read_args
from benchmarks.validation.traffic.asking import Sample, ask_all, make_asks
from benchmarks.validation.traffic.figures import EXTRA_GENERATIONS, traffic_figures
from benchmarks.validation.traffic.recording import RECORD, make_record, save_record, serving_code

LONGEST_LIST = 10


def main(argv: Sequence[str] | None = None) -> int:
    options = _parse(argv)
    corpus = load_corpus()
    records = corpus.clean + corpus.languages
    if options.count > len(records):
        print(f"--count {options.count}: the corpus has {len(records)} questions", file=sys.stderr)
        return 1
    code = serving_code()
    # Users get the calibration, which the benchmark of the dials leaves out.
    shipped = {"calibration_file": read_args().calibration_file}
    try:
        with showing(Console(stderr=True)) as meter:
            facts, samples = _measure(records, shipped, options, meter)
    except httpx.HTTPError as error:
        where = options.url or "the service"
        print(f"{where} does not answer ({type(error).__name__}); see make serve, or leave --url out", file=sys.stderr)
        return 1
    figures = traffic_figures(samples, facts.controls)
    save_record(options.json, make_record(facts, figures, code), _configuration(options), samples)
    failures = [sample.failure for sample in samples if sample.failure is not None]
    for line in failures[:LONGEST_LIST]:
        print(f"not answered: {line}", file=sys.stderr)
    _print(facts, figures)
    return 1 if failures else 0


def _measure(
    records: Sequence[Record], shipped: Mapping[str, Any], options: argparse.Namespace, meter: Meter
) -> tuple[Facts, list[Sample]]:
    """Asks the service at ``--url``, or one of our own."""
    if options.url is None:
        meter.start("starting the service", 1)
    with service_url(options.url, shipped) as url:
        if options.url is None:
            meter.tell(0)
        return asyncio.run(_ask(url, records, options, meter))


async def _ask(
    url: str, records: Sequence[Record], options: argparse.Namespace, meter: Meter
) -> tuple[Facts, list[Sample]]:
    async with connect(url, options.concurrency) as client:
        meter.start("asking", options.count)
        facts = await read_facts(client)
        asks = make_asks(records, facts.controls, options.count, options.seed)
        return facts, await ask_all(client, facts.model, asks, options.concurrency, meter.tell)


def _configuration(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("count", "seed", "concurrency")}


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validation.traffic", description=__doc__.split("\n")[0])
    parser.add_argument("--url", help="of a running service; default: one is started, on configs/serve/cpu.yaml")
    parser.add_argument("--count", type=int, default=500, help="requests (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of questions and settings (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=RECORD, help="the record (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=32, help="requests at a time (default: %(default)s)")
    options = parser.parse_args(argv)
    for name in ("count", "concurrency"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)}: at least one")
    return options


def _print(facts: Facts, figures: Mapping[str, Any]) -> None:
    simulated = " (simulated engine)" if facts.engine == "simulated" else ""
    title = f"traffic: {facts.model}{simulated}, {figures['asked']} asked, {figures['answered']} answered"
    table = Table(title=title)
    for column in ("answers", *figures["outcomes"]):
        table.add_column(column)
    for name in figures["outcomes"]["all"]:
        table.add_row(name, *(str(each[name]["hits"]) for each in figures["outcomes"].values()))
    table.add_row("mean score", *map(_told, figures["mean_score"].values()))
    extra = f"extra generations (at most {EXTRA_GENERATIONS})"
    table.add_row(extra, *map(_told, figures["extra_generations"].values()))
    for name, each in figures["findings"].items():
        table.add_row(f"found by {name}", str(each["answers"]["hits"]))
    Console(width=120).print(table)


def _told(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
