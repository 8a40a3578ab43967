"""Runs the gate: makes the adapter the challenger, asks both arms, decides, and writes the decision into its card.

    fit the judge -> set challenger (share 0) -> wait for all replicas -> ask both arms -> judge -> decide -> record

At share 0 no user's request reaches the challenger. Whatever ends this early, a kill included, the champion goes on
serving: what may be left is a challenger at share 0, which the next gate replaces. REGISTRY/gate.lock, a flock that the
kernel frees with its holder, tells such a one from that of a gate that is still running.

A shell over `held_out`, `judge_fit`, `evaluate` and `gate`. ``python -m training gate`` and ``cycle`` call it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from deployments.controls.catalogue import Catalogue
from deployments.feedback.files import LocalFiles, ensure_directory, try_lock
from deployments.rollout.adapter_store import BASE, GateRecord
from deployments.rollout.agreement import Agreement, wait_until_all_serve
from deployments.rollout.aliases import Aliases
from deployments.rollout.arms import Arm
from deployments.rollout.registry import Registry
from graph.errors import Conflict, InvalidRequest, Unavailable
from training.dataset_store import Dataset, open_dataset
from training.evaluate import AskOptions, Evaluation, ServiceClient, judge_pair
from training.gate import GateDecision, GateRules, PairedOutcome, decide
from training.held_out import (
    Found,
    HeldOutVotes,
    choose_prompts,
    parameters_of,
    read_log_prompts,
    read_prompt_file,
    read_votes,
    require_enough,
    trained_prompts,
)
from training.judge_fit import JudgeReport, JudgeRules, fit_judge
from training.judges import Judge

LOCK = "gate.lock"
_BY = "gate"
_CLEARING_TRIES = 5

OnStep = Callable[[str, int, int], None]
"""What is done; how much of it is; of how much, 0: not known."""
Wait = Callable[[Path, int, str, float], Agreement]
"""As `wait_until_all_serve`: root, version, adapter, seconds."""


@dataclass(frozen=True, slots=True)
class GateInputs:
    """What a run of the gate depends on, besides the service and the judge."""

    registry: Path
    datasets: Path
    adapter: str
    log: Path
    dataset: str | None = None
    """None: the one in the adapter's card. Another is refused: it may hold out what this adapter was trained on."""
    prompts: Path | None = None
    """A file of prompts; None: those of the log."""
    tenant: str | None = None
    """Prompts of this tenant only."""
    split: Literal["eval", "vault"] = "eval"
    limit: int = 200
    seed: int = 0
    load_timeout_s: float = 120.0
    """For all replicas to load the challenger."""


@dataclass(frozen=True, slots=True)
class GateRun:
    """What happened."""

    decision: GateDecision
    adapter: str
    champion: str
    """Against which: an adapter, or `BASE`."""
    held_out: Found
    judge: JudgeReport | None
    """Of the learned judge; None: another one judged."""
    evaluation: Evaluation | None
    """None: there was no judge, so nothing was asked."""
    outcomes: tuple[PairedOutcome, ...]
    notes: tuple[str, ...] = ()
    """What whoever reads the decision should know."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """What is in the card: the decision, and where it comes from. JSON."""


async def run_gate(
    inputs: GateInputs,
    catalogue: Catalogue,
    service: Callable[[AskOptions], ServiceClient],
    judge: Judge | None = None,
    rules: GateRules | None = None,
    judge_rules: JudgeRules | None = None,
    options: AskOptions | None = None,
    wait: Wait = wait_until_all_serve,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    on_step: OnStep = lambda step, done, total: None,
) -> GateRun:
    """Gate one adapter; its card has the decision on return, and it is the challenger still if it passed.

    Blocks its event loop while it reads and fits: run it in one of its own.

    Args:
        judge: None: learn one from the dataset's held-out feedback.
        wait: Returns when all replicas have loaded the adapter, or the seconds are over.

    Raises:
        InvalidRequest: Too few held-out prompts, or another dataset than the adapter's.
        NotFound: No such adapter, dataset, log or file.
        Conflict: A canary runs, or aliases moved meanwhile.
        Unavailable: Another gate runs, no replica follows this registry, or the service cannot be reached.
    """
    rules, options = rules or GateRules(), options or AskOptions(seed=inputs.seed)
    registry = Registry(inputs.registry)
    card = registry.card(inputs.adapter)
    if inputs.dataset is not None and inputs.dataset != card.dataset:
        raise InvalidRequest(
            f"The adapter {inputs.adapter} was trained on the dataset {card.dataset}, not on {inputs.dataset}, which "
            "may hold out prompts that it was trained on. Leave --dataset out.",
            param="dataset",
        )
    dataset = open_dataset(inputs.datasets, card.dataset)
    with _locked(inputs.registry):
        on_step("choosing held-out prompts", 0, 0)
        chosen = _choose(inputs, dataset, catalogue)
        require_enough(chosen, rules.min_prompts)
        report, votes = None, None
        if judge is None:
            on_step("learning what people like", 0, 0)
            votes = read_votes(dataset, inputs.log)
            judge, report = fit_judge(votes.votes, judge_rules or judge_rules_of(dataset), inputs.seed)
        notes = _vote_notes(votes)
        if judge is None:
            assert report is not None, "only a judge that was to be learned may be missing"
            champion = registry.aliases().champion
            nothing = replace(decide((), rules), reasons=(report.reason,), guards=())
            run = GateRun(nothing, inputs.adapter, champion, chosen, report, None, (), notes)
            run = _record(registry, inputs, run, "feedback", now_us())
            _clear(registry, inputs.adapter, now_us)
            return run
        with _challenging(registry, inputs.adapter, now_us) as aliases:
            adapters: dict[Arm, str | None] = {
                "champion": None if aliases.champion == BASE else aliases.champion,
                "challenger": inputs.adapter,
            }
            on_step("loading the challenger", 0, 0)
            _wait(wait, inputs, aliases.version)
            client = service(options)
            evaluation = await client.ask_both(
                chosen.prompts, adapters, lambda done, total: on_step("asking both arms", done, total)
            )
            outcomes = []
            for number, pair in enumerate(evaluation.pairs, 1):
                outcomes.append(await judge_pair(pair, judge))
                on_step("judging", number, len(evaluation.pairs))
            rules, more = _fit_rules(rules, outcomes)
            decision = decide(outcomes, rules)
            _check_unmoved(registry.aliases(), aliases)
            run = GateRun(
                decision, inputs.adapter, aliases.champion, chosen, report, evaluation, tuple(outcomes), (*notes, *more)
            )
            return _record(registry, inputs, run, judge.name, now_us())


def judge_rules_of(dataset: Dataset) -> JudgeRules:
    """Return the defaults, with the rater's share that the dataset was curated with."""
    return JudgeRules(rater_share=parameters_of(dataset).rater_share)


def clear_stale_challenger(registry: Registry, aliases: Aliases, now_us: int) -> Aliases:
    """Take away what a killed gate left: a challenger at share 0. Call it inside the gate's lock.

    Whether it passed is in its card, so nothing is lost: it can become the challenger again, and be promoted.

    Raises:
        Conflict: The challenger has traffic: a canary runs.
    """
    if aliases.share > 0:
        raise Conflict(
            f"The challenger {aliases.challenger} answers {aliases.share:.0%} of the traffic: a canary runs. Wait for "
            "its end, or end it first: python -m training canary --clear"
        )
    return registry.clear_challenger(
        expected_version=aliases.version, now_us=now_us, by=_BY, reason="left at share 0 by a gate that ended early"
    )


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    ensure_directory(root, LocalFiles())
    lock = try_lock(root / LOCK)
    if lock is None:
        raise Unavailable(f"Another gate runs with the registry {root}; wait for its end.")
    try:
        yield
    finally:
        lock.close()


@contextmanager
def _challenging(registry: Registry, adapter: str, now_us: Callable[[], int]) -> Iterator[Aliases]:
    """The adapter as challenger at share 0; it stays so only if its last gate passed, and the block ended well."""
    aliases = registry.aliases()
    if aliases.challenger not in (None, adapter) or aliases.share > 0:
        aliases = clear_stale_challenger(registry, aliases, now_us())
    if aliases.challenger != adapter:
        aliases = registry.set_challenger(
            adapter, expected_version=aliases.version, now_us=now_us(), by=_BY, reason="to be gated"
        )
    gated = len(registry.card(adapter).gates)
    try:
        yield aliases
    finally:
        gates = registry.card(adapter).gates
        if not (len(gates) > gated and gates[-1].passed):
            _clear(registry, adapter, now_us)


def _clear(registry: Registry, adapter: str, now_us: Callable[[], int]) -> None:
    for _ in range(_CLEARING_TRIES):
        now = registry.aliases()
        if now.challenger != adapter or now.share > 0:
            return
        try:
            registry.clear_challenger(
                expected_version=now.version, now_us=now_us(), by=_BY, reason="its gate did not pass, or did not end"
            )
            return
        except Conflict:
            continue


def _choose(inputs: GateInputs, dataset: Dataset, catalogue: Catalogue) -> Found:
    parameters = parameters_of(dataset)
    found = (
        read_log_prompts(inputs.log, parameters, catalogue, inputs.split, inputs.tenant)
        if inputs.prompts is None
        else read_prompt_file(inputs.prompts)
    )
    return choose_prompts(found, trained_prompts(dataset), parameters.near_duplicate, inputs.limit, inputs.seed)


def _wait(wait: Wait, inputs: GateInputs, version: int) -> None:
    agreement = wait(inputs.registry, version, inputs.adapter, inputs.load_timeout_s)
    if not agreement.replicas:
        raise Unavailable(
            f"No live replica follows the registry {inputs.registry}. Start the service, and name the folder that it "
            "was started with (registry_dir): --registry DIR"
        )
    if not agreement.agreed:
        raise Unavailable(
            f"Not every replica has loaded the challenger after {agreement.seconds:.0f} s:\n"
            + "\n".join(f"  {line}" for line in agreement.waiting)
        )


def _fit_rules(rules: GateRules, outcomes: list[PairedOutcome]) -> tuple[GateRules, tuple[str, ...]]:
    """The rules without the guard of control fit, where too few prompts promise anything that could be kept to.

    By the champion's answers: a challenger cannot get rid of a guard by what it says.
    """
    measured = sum(outcome.champion.control_fit is not None for outcome in outcomes)
    if rules.control_fit_margin is None or measured >= rules.min_prompts:
        return rules, ()
    note = f"control_fit is not guarded: {measured} of {len(outcomes)} prompts ask for a length"
    return replace(rules, control_fit_margin=None), (note,)


def _check_unmoved(now: Aliases, then: Aliases) -> None:
    if (now.champion, now.challenger) != (then.champion, then.challenger):
        raise Conflict(
            f"The aliases moved while the gate asked: champion {then.champion} is now {now.champion}, challenger "
            f"{then.challenger} is now {now.challenger}. Run the gate again."
        )


def _record(registry: Registry, inputs: GateInputs, run: GateRun, judge: str, now_us: int) -> GateRun:
    evaluation = run.evaluation
    report = {
        **run.decision.as_json(),
        "judge": {"name": judge, **({} if run.judge is None else run.judge.as_json())},
        "dataset": registry.card(inputs.adapter).dataset,
        "split": inputs.split if inputs.prompts is None else None,
        "seed": inputs.seed,
        "left_out": dict(run.held_out.left_out),
        "refused_prompts": None if evaluation is None else evaluation.refused,
        "failed_answers": None
        if evaluation is None
        else {"champion": evaluation.failures("champion"), "challenger": evaluation.failures("challenger")},
        "notes": list(run.notes),
    }
    registry.record_gate(inputs.adapter, GateRecord(run.champion, run.decision.passed, now_us, report))
    return replace(run, report=report)


def _vote_notes(votes: HeldOutVotes | None) -> tuple[str, ...]:
    if votes is None or not votes.gone:
        return ()
    return (f"{votes.gone} held-out rows of the dataset are no longer in the log (erased or retracted), and not used",)
