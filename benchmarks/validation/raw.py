"""Raw outputs of the real packaged model for people to label: not validated, not mended, not written again.

    python -m benchmarks.validation.raw [--count 240] [--seed 7] [--out benchmarks/validation/corpus/raw.jsonl]

Starts the engine of configs/serve/cpu.yaml in this process, without a service. Requests are compiled as the service
compiles them. Existing labels belong to the outputs that they were made for: a new run needs new ones. Prints counts
last.
"""

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.controls.progress import Meter, showing
from benchmarks.validation.corpus import load_corpus
from benchmarks.validation.raw_outputs import RAW, RawOutput, write_outputs
from benchmarks.validation.raw_settings import RawAsk, draw_asks
from benchmarks.validation.shipped import read_args, read_facts
from deployments.generator.engine import Engine
from deployments.generator.model_store import resolve_model
from deployments.generator.vllm_engine import VllmEngine
from deployments.ingress.bodies import parse
from deployments.ingress.openai_schema import ChatRequest
from deployments.ingress.planning import Caller, ServiceFacts, plan_request
from graph.contracts import EngineInfo, FinishReason
from graph.errors import ConfigurationError
from graph.moves import Plan
from graph.settings import AppArgs

CONCURRENCY = 32
"""What the shipped engine decodes at a time."""
_CALLER = Caller("benchmark", "raw")


def main(argv: Sequence[str] | None = None) -> int:
    options = _parse(argv)
    args, facts = read_args(), read_facts()
    try:
        asks = draw_asks(load_corpus(), facts.catalogue, options.count, options.seed)
        engine = make_engine(args, facts.catalogue.casual_words)
    except (ValueError, ConfigurationError) as error:
        print(error, file=sys.stderr)
        return 1
    with showing(Console(stderr=True)) as meter:
        outputs = asyncio.run(_run(asks, facts, engine, meter))
    write_outputs(options.out, outputs)
    _print(outputs, options.out)
    return 0


async def _run(asks: Sequence[RawAsk], facts: ServiceFacts, engine: Engine, meter: Meter) -> list[RawOutput]:
    meter.start("starting the engine", 1)
    await engine.start()
    try:
        meter.tell(0)
        meter.start("raw outputs", len(asks))
        return await generate_all(asks, facts, engine, meter.tell)
    finally:
        engine.shutdown()


def make_engine(args: AppArgs, casual_words: Sequence[str]) -> VllmEngine:
    """The engine that the service would make, without its metrics, which only a Ray worker can export.

    Raises:
        ConfigurationError: The packaged model was not prepared on this machine.
    """
    # By name, so that whatever the configuration may say of the engine comes along.
    settings = args.engine.vllm.model_dump()
    return VllmEngine(resolve_model(args.model.path), args.model.id, casual_words=casual_words, **settings)


def plan_ask(ask: RawAsk, facts: ServiceFacts, engine: EngineInfo) -> Plan:
    """What the service would do with the request: its job and context are what counts here.

    Raises:
        InvalidRequest: The service would refuse it.
    """
    body = {
        "model": engine.model,
        "messages": [{"role": "user", "content": ask.record.question}],
        "controls": ask.controls,
        **ask.sampling,
    }
    request = parse(ChatRequest, body)
    timeout_s = facts.tunables.request_timeout_s
    return plan_request(request, _CALLER, facts, engine, (ask.id,), 0.0, timeout_s).plans[0]


async def generate_all(
    asks: Sequence[RawAsk],
    facts: ServiceFacts,
    engine: Engine,
    tell: Callable[[int], None] = lambda tokens: None,
    concurrency: int = CONCURRENCY,
) -> list[RawOutput]:
    """The outputs in the order of ``asks``, ``concurrency`` of them in the making at a time.

    Args:
        tell: Called once an output, with its tokens.

    Raises:
        ExceptionGroup: A request was refused, or the engine died.
    """
    slots = asyncio.Semaphore(concurrency)

    async def one(ask: RawAsk) -> RawOutput:
        plan = plan_ask(ask, facts, engine.info)
        async with slots:
            deltas = [delta async for delta in engine.generate(plan.job)]
        tell(sum(delta.token_count for delta in deltas))
        return make_output(ask, plan, "".join(delta.text for delta in deltas), deltas[-1].finish_reason)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(ask)) for ask in asks]
    return [task.result() for task in tasks]


def make_output(ask: RawAsk, plan: Plan, text: str, finish_reason: FinishReason | None) -> RawOutput:
    """What was asked together with what came of it."""
    context = replace(plan.context, finish_reason=finish_reason)
    return RawOutput(ask.id, ask.record.id, ask.controls, ask.sampling, context, text)


def count_outputs(outputs: Iterable[RawOutput]) -> Mapping[str, Counter[str]]:
    """How many there are of each half, format, language, way of sampling and end."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("half", "format", "language", "sampling", "end")}
    for output in outputs:
        counts["half"][output.half] += 1
        counts["format"][output.context.answer_format] += 1
        counts["language"]["the question's" if output.context.language is None else "another one"] += 1
        by_hand = "by hand" if "temperature" in output.sampling else "as the service samples"
        counts["sampling"][by_hand + (", limited" if "max_tokens" in output.sampling else "")] += 1
        counts["end"][str(output.context.finish_reason)] += 1
    return counts


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m benchmarks.validation.raw", description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=240, help="outputs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="of questions and settings (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RAW, help="(default: %(default)s)")
    options = parser.parse_args(argv)
    if options.count < 1:
        parser.error(f"--count {options.count}: at least one")
    return options


def _print(outputs: Sequence[RawOutput], path: Path) -> None:
    table = Table(title=f"{len(outputs)} raw outputs in {path}")
    for column in ("what", "which", "outputs"):
        table.add_column(column)
    for what, counts in count_outputs(outputs).items():
        for which, count in counts.most_common():
            table.add_row(what, which, str(count))
    Console(width=120).print(table)


if __name__ == "__main__":
    sys.exit(main())
