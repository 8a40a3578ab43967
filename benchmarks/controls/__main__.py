"""Do the dials turn, and by how much? Sweeps every slider and form on the served model and calibrates the sliders.

    python -m benchmarks.controls [--url http://127.0.0.1:8000] [--out configs/calibration/MODEL.json] [--json RECORD]
                                  [--page docs/controls.md] [--only depth,technicality] [--ablations] [--quick]

Without --url it starts the service itself. Every answer is kept below --work, so an interrupted run goes on where it
was; answers of another catalogue, engine or code are asked again. Restart a service behind --url after changing code.
Parts of one run may be measured one after the other (--only): --json keeps the figures of the others.
Prints a table last; the exit status is 1 if a question was not answered, whatever the figures are.
"""

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.controls.asking import Facts, TooManyFailures
from benchmarks.controls.calibration_file import make_calibration, save_calibration
from benchmarks.controls.page import write_page
from benchmarks.controls.parts import PARTS
from benchmarks.controls.plan import Plan, quick_plan
from benchmarks.controls.progress import showing
from benchmarks.controls.prompts import HELD_OUT, PROMPT_SETS, choose_prompts
from benchmarks.controls.recording import describe_plan, describe_service, earlier_figures, make_record, save_record
from benchmarks.controls.running import Options, answer_code, measure, measure_ablations, measure_repeatable
from graph.settings import PROJECT_ROOT

WORK_DIR = PROJECT_ROOT / "data" / "controls-bench"
REPEATABLE, ABLATIONS = "repeatable", "ablations"
ON_OWN_SERVICES = {REPEATABLE: measure_repeatable, ABLATIONS: measure_ablations}
"""Parts that start services with other arguments than the one that is measured."""
ALL_PARTS = [*PARTS, *ON_OWN_SERVICES]
LONGEST_LIST = 10
MEET = {True: "yes", False: "NO", None: "-"}


def main(argv: Sequence[str] | None = None) -> int:
    options = _parse(argv)
    if options.quick:
        plan = quick_plan(options.seed)
    else:
        prompts = choose_prompts(options.prompts, options.prompt_set)
        plan = Plan(prompts, options.seeds, options.seed, prompt_set=options.prompt_set)
    run = Options(options.url, options.work, options.concurrency, answer_code(), options.any_code)
    chosen = options.only or [
        *PARTS,
        *([] if options.url else [REPEATABLE]),
        *([ABLATIONS] if options.ablations else []),
    ]
    try:
        record, failures = _run(plan, chosen, run, options)
    except httpx.ConnectError:
        print(f"{options.url} does not answer; start it with: make serve, or leave --url out", file=sys.stderr)
        return 1
    except ExceptionGroup as errors:
        gone = errors.subgroup(TooManyFailures)
        if gone is None:
            raise
        print(f"gave up: {_first(gone)}\nThe answers so far are kept; the same command goes on.", file=sys.stderr)
        return 1
    for line in failures[:LONGEST_LIST]:
        print(f"not answered: {line}", file=sys.stderr)
    _print(record, len(failures))
    return 1 if failures else 0


def _run(
    plan: Plan, chosen: Sequence[str], run: Options, options: argparse.Namespace
) -> tuple[dict[str, Any], list[str]]:
    """All parts, then those on services of their own; files are written after each of these."""
    with showing(Console(stderr=True)) as meter:
        # Always, if only for the facts of the service as it is, which the record tells.
        measured = measure(plan, [name for name in chosen if name in PARTS], run, meter)
        figures, failures = dict(measured.figures), list(measured.failures)
        record = _save(measured.facts, figures, plan, run, options)
        for name, measure_more in ON_OWN_SERVICES.items():
            if name in chosen:
                more = measure_more(plan, run, meter)
                figures[name] = more.figures
                failures += more.failures
                record = _save(measured.facts, figures, plan, run, options)
    return record, failures


def _save(
    facts: Facts, figures: Mapping[str, Any], plan: Plan, run: Options, options: argparse.Namespace
) -> dict[str, Any]:
    """Makes the record, with the earlier figures of the same run, and writes the files that were asked for."""
    service, planned = describe_service(facts, run.code), describe_plan(plan)
    earlier, differs = earlier_figures(options.json, service, planned, run.any_code)
    if differs:
        options.work.mkdir(parents=True, exist_ok=True)
        kept = options.work / f"earlier-{options.json.name}"
        shutil.copyfile(options.json, kept)
        what = ", ".join(differs)
        print(f"{options.json} is of another {what} and begins anew; the old one is {kept}", file=sys.stderr)
    record = make_record(service, planned, {**earlier, **figures}, ALL_PARTS)
    if options.json:
        configuration = {
            name: getattr(options, name) for name in ("prompts", "prompt_set", "seeds", "seed", "quick", "concurrency")
        }
        save_record(options.json, record, configuration)
    if options.out and "depth" in record["figures"]:
        save_calibration(options.out, make_calibration(record))
    elif options.out:
        print(f"{options.out} is not written: a calibration needs the sweep of depth", file=sys.stderr)
    if options.page:
        write_page(options.json, options.page)
    return record


def _first(errors: BaseExceptionGroup[Exception]) -> BaseException:
    """The first error of a group of groups."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m benchmarks.controls", description=__doc__.split("\n")[0])
    parser.add_argument("--url", help="of a running service; default: one is started, on configs/serve/cpu.yaml")
    parser.add_argument("--out", type=Path, help="write the calibration of the model here; needs the sweep of depth")
    parser.add_argument("--json", type=Path, help="write figures, versions and machine here")
    parser.add_argument("--page", type=Path, help="write the page here, from --json, with pictures beside it")
    parser.add_argument("--work", type=Path, default=WORK_DIR, help="where answers are kept (default: %(default)s)")
    parser.add_argument("--only", type=_parts, help=f"some of: {','.join(ALL_PARTS)}")
    parser.add_argument("--ablations", action="store_true", help="and the sweeps without levers, on own services")
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--prompt-set", choices=PROMPT_SETS, default=HELD_OUT, help="tune curves on tuning only")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1, help="of the whole run")
    parser.add_argument("--concurrency", type=int, default=48, help="requests at a time")
    parser.add_argument("--quick", action="store_true", help="8 prompts, 3 levels, 1 seed: is everything in place?")
    parser.add_argument("--any-code", action="store_true", help="use answers that other code made, too")
    options = parser.parse_args(argv)
    if options.page and not options.json:
        parser.error("--page is written from the record: give --json, too")
    own = [name for name in options.only or () if name in ON_OWN_SERVICES] + [ABLATIONS] * options.ablations
    if options.url and own:
        parser.error(f"{own[0]} starts services with other arguments, of this checkout's model: leave --url out")
    if not 1 <= options.prompts <= 40:
        parser.error(f"--prompts {options.prompts}: there are 1 to 40")
    return options


def _parts(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in ALL_PARTS:
            raise argparse.ArgumentTypeError(f"{name!r} is no part; there are: {', '.join(ALL_PARTS)}")
    return names


def _print(record: dict[str, Any], failures: int) -> None:
    service, plan = record["service"], record["plan"]
    simulated = " (simulated engine)" if service["engine"] == "simulated" else ""
    size = f"{plan['prompts']} prompts × {len(plan['levels'])} levels × {plan['seeds']} seeds"
    table = Table(title=f"controls: {service['model']}{simulated}, {size}, {failures} not answered")
    for column in ("dial", "what", "must reach", "reached", "met"):
        table.add_column(column)
    for target in record["targets"]:
        row = (target["knob"], target["what"], target["must"], target["figure"], MEET[target["met"]])
        table.add_row(*row)
    Console(width=150).print(table)


if __name__ == "__main__":
    sys.exit(main())
