"""``python -m training gate``: may this adapter take the champion's place?"""

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from graph.errors import InvalidRequest
from graph.settings import PROJECT_ROOT
from training.progress import progress_on

if TYPE_CHECKING:
    from training.gating import GateRun

HELP = "compare an adapter with the champion through the running service, and write the decision into its card"
NOT_PASSED = 3
"""The exit status of a gate that ran and did not pass its adapter."""
_CONFIGS = PROJECT_ROOT / "configs"
_MARGINS = {
    "pass_rate": "pass_rate_margin",
    "refusals": "refusal_margin",
    "control_fit": "control_fit_margin",
    "length": "length_margin",
    "latency": "latency_margin",
}
_EXAMPLES = 3
_SHOWN_CHARACTERS = 240
_SHOWN_WEIGHTS = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--adapter", required=True, metavar="NAME", help="its name or first digits")
    parser.add_argument("--dataset", default=None, metavar="NAME", help="that it was trained on [as its card says]")
    parser.add_argument("--datasets", type=Path, default=Path("data/datasets"), metavar="DIR", help="where they are")
    parser.add_argument("--registry", type=Path, default=Path("data/registry"), metavar="DIR", help="of adapters")
    parser.add_argument("--log", type=Path, default=Path("data/log"), metavar="DIR", help="root of the log")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the running service")
    parser.add_argument("--key-env", default=None, metavar="NAME", help="variable with the key of an admin tenant")
    parser.add_argument("--prompts", type=Path, default=None, metavar="FILE", help="ask these, one JSON object a line")
    parser.add_argument("--tenant", default=None, help="ask prompts of this tenant only")
    parser.add_argument("--vault", action="store_true", help="ask the vault's prompts, for a last look")
    parser.add_argument("--limit", type=int, default=200, metavar="N", help="the most prompts that are asked")
    parser.add_argument("--min-prompts", type=int, default=60, metavar="N", help="the fewest that a decision takes")
    parser.add_argument("--without-guard", nargs="+", choices=_MARGINS, default=[], help="guards to leave out")
    parser.add_argument("--seed", type=int, default=0, help="of prompts, order, sampling and the judge's folds")
    parser.add_argument("--concurrency", type=int, default=8, metavar="N", help="questions in flight")
    parser.add_argument("--max-tokens", type=int, default=None, metavar="N", help="of an answer [the service's limit]")
    parser.add_argument("--load-timeout", type=float, default=120.0, metavar="S", help="for replicas to load it")
    parser.add_argument(
        "--judge",
        choices=("feedback", "score", "llm"),
        default="feedback",
        help="learned from held-out feedback; by the validators' score; or a model behind --judge-url",
    )
    parser.add_argument("--judge-url", default=None, metavar="URL", help="of the judging model, up to /v1")
    parser.add_argument("--judge-model", default=None, metavar="NAME", help="that judges")
    parser.add_argument("--judge-key-env", default=None, metavar="NAME", help="variable with its key")
    parser.add_argument("--controls", type=Path, default=_CONFIGS / "controls.yaml", metavar="FILE", help="catalogue")


def run(options: argparse.Namespace, messages: Console) -> None:
    """Run the gate, print the decision as JSON, and tables for people; exits with `NOT_PASSED` if it did not pass.

    Raises:
        As `training.gating.run_gate`.
    """
    with (
        progress_on(messages) as progress,
        _stopped_by_sigterm(),
    ):
        tasks: dict[str, Any] = {}

        def on_step(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(step, total=total or None)
            progress.update(tasks[step], completed=done)

        gated = asyncio.run(_gate(options, on_step))
    print_run(gated, messages)
    print(json.dumps({"adapter": gated.adapter, "champion": gated.champion, **gated.report}))
    sys.stdout.flush()
    if not gated.decision.passed:
        raise SystemExit(NOT_PASSED)


async def _gate(options: argparse.Namespace, on_step: Any) -> "GateRun":
    import httpx

    from deployments.controls.catalogue import load_catalogue
    from deployments.rollout.operations import complete_name
    from deployments.rollout.registry import Registry
    from training.evaluate import AskOptions, ServiceClient
    from training.gate import GateRules
    from training.gating import GateInputs, run_gate
    from training.judges import Judge, ScoreJudge
    from training.llm_judge import LlmJudge

    off: dict[str, Any] = {_MARGINS[guard]: None for guard in options.without_guard}
    rules = GateRules(min_prompts=options.min_prompts, **off)
    ask = AskOptions(concurrency=options.concurrency, seed=options.seed, max_tokens=options.max_tokens)
    inputs = GateInputs(
        registry=options.registry,
        datasets=options.datasets,
        adapter=complete_name(Registry(options.registry), options.adapter),
        log=options.log,
        dataset=options.dataset,
        prompts=options.prompts,
        tenant=options.tenant,
        split="vault" if options.vault else "eval",
        limit=options.limit,
        seed=options.seed,
        load_timeout_s=options.load_timeout,
    )
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=options.url, headers=_key_header(options.key_env, "--key-env"))
        )
        judge: Judge | None = None
        if options.judge == "score":
            judge = ScoreJudge()
        elif options.judge == "llm":
            if not (options.judge_url and options.judge_model):
                raise InvalidRequest("--judge llm needs --judge-url and --judge-model.", param="judge")
            judging = await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=options.judge_url.rstrip("/") + "/",
                    headers=_key_header(options.judge_key_env, "--judge-key-env"),
                    timeout=120,
                )
            )
            judge = LlmJudge(judging, options.judge_model)
        return await run_gate(
            inputs,
            load_catalogue(options.controls),
            lambda asking: ServiceClient(client, asking, time.monotonic),
            judge,
            rules,
            options=ask,
            on_step=on_step,
        )


def print_run(gated: "GateRun", messages: Console) -> None:
    """Print a run of the gate as tables."""
    from training.held_out import LEFT_OUT

    decision = gated.decision
    if gated.judge is not None:
        like = Table("what people like, by the held-out feedback", title=gated.judge.reason, title_justify="left")
        for weight in gated.judge.weights[:_SHOWN_WEIGHTS] if gated.judge.accepted else ():
            like.add_row(Text(weight.words))
        messages.print(like if like.row_count else Text(gated.judge.reason, style="yellow"))
    if gated.evaluation is not None:
        table = Table("", "measured", "from", "to", "allowed", "prompts", "holds")
        if (rate := decision.win_rate) is not None:
            values = (f"{value:.3f}" for value in (rate.value, rate.low, rate.high))
            won = f"{decision.prompts} ({decision.wins} won, {decision.losses} lost)"
            table.add_row("win rate", *values, "from > 0.5", won, "yes" if rate.low > 0.5 else "no")
        for guard in decision.guards:
            estimate = guard.estimate
            shown = (
                ["-"] * 3 if estimate is None else [f"{v:.3f}" for v in (estimate.value, estimate.low, estimate.high)]
            )
            limits = [f"> {guard.allowed_low:.3f}"] if guard.allowed_low is not None else []
            limits += [f"< {guard.allowed_high:.3f}"] if guard.allowed_high is not None else []
            holds = "yes" if guard.passed else "no"
            table.add_row(guard.name, *shown, " and ".join(limits), str(guard.prompts), holds)
        messages.print(table)
        messages.print(_examples(gated))
    if gated.held_out.left_out:
        table = Table("not asked", "prompts", "why")
        for reason, count in sorted(gated.held_out.left_out.items()):
            table.add_row(reason, f"{count:,}", LEFT_OUT[reason])
        messages.print(table)
    for note in gated.notes:
        messages.print(Text(note, style="yellow"))
    verdict = "passed" if decision.passed else "not passed; the champion goes on serving"
    messages.print(Text(f"{verdict}: {'; '.join(decision.reasons)}", style="green" if decision.passed else "red"))


def _examples(gated: "GateRun") -> Table:
    """One prompt of each result where there are such, then others."""
    assert gated.evaluation is not None
    by_winner: dict[str, list[int]] = {"challenger": [], "champion": [], "tie": []}
    for place, outcome in enumerate(gated.outcomes):
        by_winner[outcome.winner].append(place)
    order = [places[0] for places in by_winner.values() if places]
    order += [place for places in by_winner.values() for place in places[1:]]
    table = Table("question", "champion", "challenger", "better", show_lines=True)
    for place in order[:_EXAMPLES]:
        pair = gated.evaluation.pairs[place]
        answers = (each.failure or each.text for each in (pair.champion, pair.challenger))
        # From the end for answers: how one ends is what most preferences are about, and both begin alike.
        told = [_cut(pair.prompt.question), *map(_cut_front, answers), gated.outcomes[place].winner]
        table.add_row(*map(Text, told))
    return table


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _cut_front(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else "…" + text[1 - _SHOWN_CHARACTERS :]


def _key_header(variable: str | None, flag: str) -> dict[str, str]:
    if variable is None:
        return {}
    key = os.environ.get(variable)
    if not key:
        raise InvalidRequest(f"{flag} names the variable {variable!r}, which is not set or empty.", param=flag)
    return {"Authorization": f"Bearer {key}"}


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """A SIGTERM ends the block as Ctrl-C does, so that the challenger is cleared on the way out."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
