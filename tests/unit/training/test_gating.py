"""The gate from log to card: real log, dataset, registry and judge; the service and its answers are made up."""

import asyncio
import json
import signal
from dataclasses import replace

import httpx
import numpy as np
import pytest
from gate_support import StandIn, make_body
from rich.console import Console

from benchmarks.durability.recording import QuickFiles
from deployments.controls.catalogue import load_catalogue
from deployments.feedback.files import try_lock
from deployments.rollout.adapter_files import BaseModel
from deployments.rollout.adapter_store import BASE, AdapterCard
from deployments.rollout.agreement import Agreement
from deployments.rollout.registry import Registry
from graph.errors import Conflict, InvalidRequest, Unavailable
from graph.settings import PROJECT_ROOT
from tests.curation_log import SUBJECTS, CurationLog
from tests.unit.rollout.adapter_support import make_base, write_adapter
from training import __main__ as command_line
from training.commands import gate as command
from training.curate import LogSource, curate
from training.curation import CurationParameters
from training.gate import GateRules
from training.gating import LOCK, GateInputs, run_gate
from training.judge_fit import JudgeRules
from training.judges import ScoreJudge

CATALOGUE = load_catalogue(PROJECT_ROOT / "configs/controls.yaml")
RULES = GateRules(min_prompts=40)
QUICK = JudgeRules(permutations=199, resamples=200)
ALL = Agreement(True, 2, ())


def liked_text(rng, asks):
    words = rng.choice(
        ["tides", "turn", "bread", "and", "glass", "under", "light", "maps", "salt", "bees", "ice", "paper"], 12
    )
    return f"Of this one may say: {' '.join(words)}. " + ("Do you agree?" if asks else "That is all.")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A log in which answers that end with a question are liked, and the dataset of it."""
    return make_world(tmp_path_factory.mktemp("world"), noise=0.05)


def make_world(root, noise):
    rng, log = np.random.default_rng(1), CurationLog(root / "log")
    for number in range(200):
        asks = bool(rng.random() < 0.4)
        text = f"What of {SUBJECTS[number % 12]} and {SUBJECTS[number * 7 % 11]}, case {number}, as {number * 13} says?"
        about = log.answer(prompt=[{"role": "user", "content": text}], answer=liked_text(rng, asks))
        log.thumb(about, up=asks == (rng.random() >= noise), source_id=f"rater-{number % 30}")
    source = LogSource(log.write())
    return log, curate(root / "datasets", CurationParameters(eval_share=0.4), log=source, files=QuickFiles())


@pytest.fixture
def base(tmp_path) -> BaseModel:
    return make_base(tmp_path / "models")


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "registry", QuickFiles())


@pytest.fixture
def register(tmp_path, base, registry, world):
    def register(number=0, dataset=world[1].name):
        card = AdapterCard(dataset, base.name, base.sha256, {}, 1, {}, BASE, 1)
        return registry.register(write_adapter(tmp_path / f"runs/{number}", number), tmp_path / "runs", card, base, 16)

    return register


class Service(StandIn):
    """A challenger whose answers end with a question, against a champion that tells."""

    def __init__(self, adapter, challenger_asks=0.9, champion=None):
        super().__init__()
        self.adapters = {"champion": champion, "challenger": adapter}
        self.shares = {"champion": 0.1, "challenger": challenger_asks}
        self.rng = np.random.default_rng(3)

    async def answer(self, arm, body):
        text = liked_text(self.rng, self.rng.random() < self.shares[arm])
        return httpx.Response(200, json=make_body(arm, self.adapters[arm], text, score=0.5))


@pytest.fixture
def gate(tmp_path, registry, world):
    log, dataset = world

    def gate(adapter, service, judge=None, wait=lambda *_: ALL, log=log, datasets=dataset.folder.parent, **inputs):
        given = GateInputs(tmp_path / "registry", datasets, adapter, log.root, **inputs)
        return asyncio.run(run_gate(given, CATALOGUE, service.client, judge, RULES, QUICK, wait=wait, now_us=lambda: 7))

    return gate


def challenge(registry, adapter, share=0.0):
    registry.set_challenger(adapter, expected_version=registry.aliases().version, now_us=1, by="tester")
    if share:
        registry.set_share(share, expected_version=registry.aliases().version, now_us=1, by="tester")


def test_a_better_adapter_passes_stays_challenger_and_can_be_promoted(registry, register, gate):
    adapter = register()
    run = gate(adapter, Service(adapter))
    assert run.decision.passed, run.decision.reasons
    assert run.judge.accepted
    assert any("end with a question" in weight.words for weight in run.judge.weights[:3])
    assert (registry.aliases().challenger, registry.aliases().share) == (adapter, 0.0)
    (record,) = registry.card(adapter).gates
    assert (record.passed, record.champion, record.at_us) == (True, BASE, 7)
    assert record.report == run.report == json.loads(json.dumps(run.report))
    assert run.notes == (f"control_fit is not guarded: 0 of {len(run.outcomes)} prompts ask for a length",)
    registry.promote(adapter, expected_version=registry.aliases().version, now_us=8, by="tester")
    assert registry.aliases().champion == adapter


def test_one_that_is_no_better_does_not_pass_and_is_no_challenger_any_more(registry, register, gate):
    adapter = register()
    run = gate(adapter, Service(adapter, challenger_asks=0.1))
    assert not run.decision.passed
    assert run.decision.reasons[0].startswith("win rate")
    assert registry.aliases().challenger is None
    assert [record.passed for record in registry.card(adapter).gates] == [False]


def test_without_a_judge_nothing_is_asked_and_nobody_passes(tmp_path, registry, register, gate):
    log, dataset = make_world(tmp_path / "noise", noise=0.5)
    adapter = register(dataset=dataset.name)
    service = Service(adapter)
    run = gate(adapter, service, log=log, datasets=dataset.folder.parent)
    assert run.decision.reasons == (run.judge.reason,)
    assert run.judge.reason.startswith("the held-out feedback does not say what people like")
    assert service.asked == []
    assert (registry.aliases().challenger, registry.card(adapter).gates[-1].passed) == (None, False)


def test_the_score_can_judge_where_there_is_no_feedback_that_says_anything(register, gate):
    adapter = register()
    run = gate(adapter, Service(adapter), ScoreJudge())
    assert (run.judge, run.decision.wins, run.decision.losses) == (None, 0, 0)
    assert run.report["judge"] == {"name": "score"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_whatever_ends_the_gate_early_the_champion_stays_and_no_challenger_does(registry, register, gate, error):
    adapter = register()

    def stop(*_):
        raise error

    with pytest.raises(error):
        gate(adapter, Service(adapter), wait=stop)
    assert (registry.aliases().champion, registry.aliases().challenger) == (BASE, None)
    assert registry.card(adapter).gates == ()


def test_a_challenger_that_a_killed_gate_left_is_replaced(registry, register, gate):
    left, adapter = register(1), register(2)
    challenge(registry, left)
    assert gate(adapter, Service(adapter)).decision.passed
    assert registry.aliases().challenger == adapter


def test_a_gate_that_was_killed_can_be_run_again_for_the_same_adapter(registry, register, gate):
    adapter = register()
    challenge(registry, adapter)
    assert gate(adapter, Service(adapter)).decision.passed


def test_a_canary_that_runs_is_left_alone(registry, register, gate):
    running, adapter = register(1), register(2)
    challenge(registry, running, share=0.05)
    with pytest.raises(Conflict, match="answers 5% of the traffic: a canary runs"):
        gate(adapter, Service(adapter))
    assert (registry.aliases().challenger, registry.aliases().share) == (running, 0.05)


def test_two_gates_do_not_run_at_once(tmp_path, register, gate):
    adapter = register()
    lock = try_lock(tmp_path / "registry" / LOCK)
    with pytest.raises(Unavailable, match="Another gate runs"):
        gate(adapter, Service(adapter))
    lock.close()


def test_replicas_that_do_not_load_it_or_are_not_there_are_named(registry, register, gate):
    adapter = register()
    with pytest.raises(Unavailable, match="No live replica follows the registry"):
        gate(adapter, Service(adapter), wait=lambda *_: Agreement(True, 0, ()))
    with pytest.raises(Unavailable, match="generator g1: has not loaded"):
        gate(adapter, Service(adapter), wait=lambda *_: Agreement(False, 1, ("generator g1: has not loaded it",), 9.0))
    assert registry.aliases().challenger is None


def test_aliases_that_move_meanwhile_make_the_measurement_void(registry, register, gate):
    adapter, other = register(1), register(2)
    service = Service(adapter)
    answer = service.answer

    async def move(arm, body):
        if len(service.asked) == 60:
            now = registry.aliases()
            now = registry.clear_challenger(expected_version=now.version, now_us=1, by="tester")
            registry.set_challenger(other, expected_version=now.version, now_us=1, by="tester")
        return await answer(arm, body)

    service.answer = move
    with pytest.raises(Conflict, match="The aliases moved while the gate asked"):
        gate(adapter, service)
    assert registry.card(adapter).gates == ()
    assert registry.aliases().challenger == other


def test_another_dataset_than_the_adapter_s_and_too_few_prompts_are_refused(register, gate):
    adapter = register()
    with pytest.raises(InvalidRequest, match="was trained on the dataset"):
        gate(adapter, Service(adapter), dataset="b" * 64)
    with pytest.raises(InvalidRequest, match="5 held-out prompts, and the gate needs at least 40"):
        gate(adapter, Service(adapter), limit=5)


@pytest.mark.parametrize(("share", "status"), [(0.9, 0), (0.1, command.NOT_PASSED)])
def test_the_command_tells_the_decision_by_its_status_in_json_and_in_tables(
    register, gate, monkeypatch, capsys, share, status
):
    adapter = register()
    run = gate(adapter, Service(adapter, challenger_asks=share))

    async def fake(options, on_step):
        on_step("asking both arms", 1, 2)
        return run

    monkeypatch.setattr(command, "_gate", fake)
    try:
        code = command_line.main(["gate", "--adapter", adapter])
    except SystemExit as stop:
        code = stop.code
    assert code == status
    told = capsys.readouterr()
    (line,) = told.out.splitlines()
    assert json.loads(line) == {"adapter": adapter, "champion": BASE, **run.report}
    assert "win rate" in told.err
    assert "latency" in told.err
    assert "end with a question" in told.err
    assert "other_split" in told.err


def test_a_sigterm_ends_the_command_as_ctrl_c_does():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), command._stopped_by_sigterm():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_answers_say_is_no_markup_for_the_table(register, gate):
    adapter = register()
    run = gate(adapter, Service(adapter))
    pair = run.evaluation.pairs[0]
    odd = replace(pair, champion=replace(pair.champion, text="[/red] [bold]odd"))
    console = Console(record=True, width=200)
    command.print_run(
        replace(run, evaluation=replace(run.evaluation, pairs=(odd,) * len(run.evaluation.pairs))), console
    )
    assert "[/red] [bold]odd" in console.export_text()
