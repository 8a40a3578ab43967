"""Does the validator find what is wrong, and leave alone what is right?

    python -m benchmarks.validation [--half development|test] [--seed 1] [--streams 2000]
                                    [--json RECORD] [--page docs/quality.md]

Spoils the answers of one half of the corpus in every known way and counts what the checks find; counts what they find
in right answers; mends, streams and times; judges labelled outputs of the real model, where there are any. Starts no
service. Tune on the development half only. Prints a table last.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.validation.corpus import HALVES, Corpus, Half, load_corpus
from benchmarks.validation.delays import load_splitter, measure_delays
from benchmarks.validation.evaluate import evaluate
from benchmarks.validation.inject import make_cases
from benchmarks.validation.latency import measure_latency
from benchmarks.validation.page import write_page
from benchmarks.validation.real import evaluate_real, load_labelled
from benchmarks.validation.recording import make_record, save_record
from benchmarks.validation.repair import measure_repair
from benchmarks.validation.served_streams import measure_served
from benchmarks.validation.streams import measure_streams
from deployments.validator.policy import QualityPolicy
from deployments.validator.relevance_model import RelevanceModel

MET = {True: "yes", False: "NO", None: "-"}


def main(argv: Sequence[str] | None = None) -> int:
    options = _parse(argv)
    corpus = load_corpus().of(options.half)
    record = make_record(options.half, corpus, _measure(corpus, options.half, options.seed, options.streams))
    if options.json:
        save_record(options.json, record, {"seed": options.seed, "streams": options.streams})
    if options.page:
        write_page(options.json, options.page)
    _print(record)
    return 0


def _measure(corpus: Corpus, half: Half, seed: int, streams: int) -> dict[str, Any]:
    # First, for it stops at a fault in the labels.
    labelled = load_labelled()
    cases = make_cases(corpus, seed)
    relevance = RelevanceModel().cosine
    real = evaluate_real(labelled, half, QualityPolicy(), relevance)
    return {
        "detection": evaluate(corpus, cases, QualityPolicy(), relevance),
        **({} if real is None else {"real": real}),
        "repair": measure_repair(cases, corpus.clean + corpus.hard),
        "streams": measure_streams(corpus, streams, seed),
        "served": measure_served(corpus, streams, seed),
        "delays": measure_delays(corpus.clean, corpus.systems, load_splitter()),
        "latency": measure_latency(corpus.clean, corpus.systems, random.Random(seed), relevance),
    }


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validation", description=__doc__.split("\n")[0])
    parser.add_argument("--half", choices=HALVES, default="test", help="of the corpus (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write figures, versions and machine here")
    parser.add_argument("--page", type=Path, help="write the page here, from --json")
    parser.add_argument("--seed", type=int, default=1, help="of all injected defects (default: %(default)s)")
    parser.add_argument(
        "--streams",
        type=int,
        default=2000,
        help="through the guard, and as many through the service (default: %(default)s)",
    )
    options = parser.parse_args(argv)
    if options.page and not options.json:
        parser.error("--page is written from the record: give --json, too")
    return options


def _print(record: dict[str, Any]) -> None:
    records = record["corpus"]["records"]
    size = f"{records['clean']} clean, {records['hard']} hard, {records['languages']} in other languages"
    table = Table(title=f"validation: {record['corpus']['half']} half, {size}")
    for column in ("what", "must reach", "reached", "met"):
        table.add_column(column)
    for target in record["targets"]:
        table.add_row(target["what"], target["must"], target["reached"], MET[target["met"]])
    Console(width=150).print(table)


if __name__ == "__main__":
    sys.exit(main())
