"""``python -m training curate``: feedback becomes a dataset."""

import argparse
import json
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from deployments.feedback.contracts import MetricContract, explain_unknown, load_contracts
from graph.errors import InvalidRequest
from graph.settings import PROJECT_ROOT
from training.commands import flag
from training.curation import HARD_CHECKS, METHODS, REASONS, SPLITS, CurationParameters
from training.progress import progress_on

HELP = "make a dataset of the feedback: training rows, held-out rows and a vault"
_CONFIGS = PROJECT_ROOT / "configs"
_DEFAULTS = CurationParameters()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--log", type=Path, default=None, metavar="DIR", help="root of the log [data/log]")
    parser.add_argument(
        "--rows",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="exported rows in place of the log's; with --log, what was erased since is left out",
    )
    parser.add_argument("--out", type=Path, default=Path("data/datasets"), metavar="DIR", help="where datasets are")
    parser.add_argument("--since", default="all", metavar="WHEN", help="signals from then on: all, 7d, 2026-01-31")
    parser.add_argument("--until", default=None, metavar="WHEN", help="signals before then")
    parser.add_argument("--tenant", default=None, help="signals of this tenant only")
    parser.add_argument("--metrics", type=Path, default=_CONFIGS / "metrics.yaml", metavar="FILE", help="contracts")
    parser.add_argument("--quality", type=Path, default=_CONFIGS / "quality.yaml", metavar="FILE", help="fixed texts")
    parser.add_argument(
        "--require",
        nargs="+",
        choices=METHODS,
        default=[],
        help="fail unless these can be trained; else any one will do",
    )
    parser.add_argument("--metric", nargs="+", default=["thumb"], help="boolean metrics to train on")
    parser.add_argument("--guard", nargs="+", default=list(HARD_CHECKS), help="checks that a liked answer must pass")
    for name, text in (
        ("rater_share", "the most of the rows that one rater may have; asks for 1/share raters"),
        ("near_duplicate", "Jaccard similarity of 3-word shingles from which rows are near-duplicates"),
        ("eval_share", "of the prompts, held out for the gate"),
        ("vault_share", "of the prompts, never trained or tuned on"),
        ("regeneration_weight", "weight of pairs from kept regenerations"),
    ):
        parser.add_argument(flag(name), type=float, default=getattr(_DEFAULTS, name), metavar="X", help=text)
    for name, text in (
        ("min_raters", "distinct raters that a method needs"),
        ("kto_batch_size", "rows a process and step that the order of KTO rows is made for"),
        ("seed", "shuffles the rows"),
    ):
        parser.add_argument(flag(name), type=int, default=getattr(_DEFAULTS, name), metavar="N", help=text)
    parser.add_argument(
        "--split-by",
        choices=("conversation", "prompt"),
        default=_DEFAULTS.split_by,
        help="what stays together: conversations with the same first user turn, or equal prompts",
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="tasks of Ray Data; 0: this process alone")
    parser.add_argument("--ray", default="local", metavar="ADDRESS", help="Ray cluster; local: one for this run")


def run(options: argparse.Namespace, messages: Console) -> None:
    """Curate, print the dataset's name, path and counts as JSON, and tables for people.

    Raises:
        As `training.curate.curate`.
    """
    from deployments.feedback.analysis.period import Scope, parse_since
    from training.curate import LogSource, curate, prepare_in_process, prepare_with_ray_data

    if options.workers < 0:
        raise InvalidRequest(f"--workers is {options.workers}; it must be 0 or more.", param="workers")
    contracts = load_contracts(options.metrics)
    now_us = time.time_ns() // 1000
    until_us = parse_since(options.until, now_us) if options.until else None
    scope = Scope(parse_since(options.since, now_us), until_us, options.tenant)
    if options.rows and not scope.is_whole:
        raise InvalidRequest(
            "--since, --until and --tenant choose rows of the log; with --rows choose them at the export.", param="rows"
        )
    root = options.log or (None if options.rows else Path("data/log"))
    with progress_on(messages) as progress:
        dataset = curate(
            options.out,
            _parameters(options, contracts),
            log=None if root is None else LogSource(root, contracts, scope),
            exports=options.rows,
            runner=(
                partial(prepare_with_ray_data, workers=options.workers, address=options.ray)
                if options.workers
                else prepare_in_process
            ),
            required=options.require,
            on_step=_Steps(progress).show,
            on_problem=lambda problem: messages.print(problem, style="yellow", markup=False, highlight=False),
        )
    _print_tables(dataset.manifest, messages)
    methods = dataset.manifest["methods"]
    told = {
        "dataset": dataset.name,
        "path": str(dataset.folder),
        "usable": [method for method in METHODS if methods[method]["usable"]],
        "rows": {method: {split: methods[method]["splits"][split]["rows"] for split in SPLITS} for method in METHODS},
    }
    print(json.dumps(told))


class _Steps:
    """One line of progress a step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}

    def show(self, step: str, done: int, total: int) -> None:
        if step not in self._tasks:
            for task in self._tasks.values():
                self._progress.stop_task(task)
            self._tasks[step] = self._progress.add_task(step, total=total or None)
        self._progress.update(self._tasks[step], completed=done)


def _parameters(options: argparse.Namespace, contracts: Mapping[str, MetricContract]) -> CurationParameters:
    from deployments.formatter.contractions import expand
    from deployments.validator.policy import load_policy

    for name in options.metric:
        if name not in contracts or contracts[name].kind != "thumb":
            raise InvalidRequest(f"The metric {explain_unknown(name, 'thumb', contracts)}.", param="metric")
    policy = load_policy(options.quality)
    fixed = [policy.fallback_text, policy.refusal_text]
    return CurationParameters(
        thumb_metrics=tuple(sorted(set(options.metric))),
        lower_is_better=tuple(sorted({name for name in options.metric if contracts[name].better == "lower"})),
        guard_checks=tuple(sorted(set(options.guard))),
        # Formal answers have them written out.
        service_texts=tuple(sorted({*fixed, *map(expand, fixed)})),
        **{
            name: getattr(options, name)
            for name in (
                "rater_share",
                "near_duplicate",
                "eval_share",
                "vault_share",
                "regeneration_weight",
                "min_raters",
                "kto_batch_size",
                "seed",
                "split_by",
            )
        },
    )


def _print_tables(manifest: Mapping[str, Any], messages: Console) -> None:
    table = Table("", "candidates", "left out", *SPLITS, "raters", "usable")
    for method in METHODS:
        report = manifest["methods"][method]
        rows = [report["splits"][split]["rows"] for split in SPLITS]
        numbers = (report["candidates"], sum(report["left_out"].values()), *rows, report["raters"])
        table.add_row(method, *(f"{number:,}" for number in numbers), "yes" if report["usable"] else "no")
    messages.print(table)
    left_out = Table("left out", "candidates", "why")
    of_methods = ((reason, n) for method in METHODS for reason, n in manifest["methods"][method]["left_out"].items())
    for reason, count in sorted(_sum([*of_methods, *manifest["for_no_method"].items()]).items()):
        left_out.add_row(reason, f"{count:,}", REASONS[reason])  # type: ignore[index]
    if left_out.row_count:
        messages.print(left_out)
    for method in METHODS:
        if not manifest["methods"][method]["usable"]:
            messages.print(manifest["methods"][method]["reason"], style="yellow", markup=False, highlight=False)


def _sum(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for name, count in counts:
        total[name] = total.get(name, 0) + count
    return total
