"""Whatever is wrong with what the loop is given: a message that says so, and nothing has changed.

One table of commands, and one of adapters that somebody wants to register. After each of them the champion is served as
before, and datasets, registry, runs and log have the bytes that they had. No torch: training is refused before it.
"""

import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

import pytest

from benchmarks.durability.recording import QuickFiles
from deployments.feedback.files import try_lock
from deployments.rollout.adapter_files import WEIGHTS, BaseModel
from deployments.rollout.adapter_store import BASE
from deployments.rollout.aliases import ALIASES
from deployments.rollout.registry import Registry
from deployments.rollout.replicas import ReplicaState, remove_state, write_state
from graph.errors import InvalidRequest, NotFound, RheostatError
from tests.curation_log import CurationLog, fill
from tests.unit.rollout.adapter_support import (
    RANK,
    make_base,
    make_card,
    make_safetensors,
    make_tensors,
    write_adapter,
)
from training.__main__ import main
from training.curate import LogSource, curate
from training.curation import CurationParameters
from training.dataset_store import LOCK as DATASETS_LOCK
from training.gating import LOCK as GATE_LOCK

QUESTIONS = "".join(
    json.dumps({"messages": [{"role": "user", "content": f"What of case {n}, and of {n * 31}?"}]}) + "\n"
    for n in range(12)
)
UNKNOWN = "0" * 64


class World:
    """A log, its dataset, and a registry in which an adapter was promoted. Built once: nothing may change it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.base = make_base(root / "models")
        log = fill(CurationLog(self.data / "log"))
        source = LogSource(log.write())
        self.dataset = curate(self.data / "datasets", CurationParameters(), log=source, files=QuickFiles()).name
        thumbs = CurationLog(root / "thumbs-only")
        for number in range(60):
            thumbs.thumb(thumbs.answer(), up=number % 2 == 0, source_id=f"rater-{number}")
        source = LogSource(thumbs.write())
        self.of_thumbs = curate(self.data / "datasets", CurationParameters(), log=source, files=QuickFiles()).name
        shutil.copytree(self.data / "datasets", root / "damaged")
        for path in (root / "damaged" / self.dataset).glob("*-train.parquet"):
            path.write_bytes(path.read_bytes()[:-9] + b"other end")
        self.registry = Registry(self.data / "registry", QuickFiles())
        self.champion, self.spare, self.damaged, self.undated = (self.register(number) for number in range(4))
        self.elsewhere = self.register(4, self.other_base())
        self.registry.set_challenger(self.champion, **self.decided())
        self.registry.promote(self.champion, ungated=True, reason="the world begins so", **self.decided())
        weights = self.registry.path(self.damaged) / WEIGHTS
        weights.write_bytes(weights.read_bytes()[:-7])
        for name, make in LOGS.items():
            make(made := CurationLog(root / name))
            made.write()
        (root / "questions.jsonl").write_text(QUESTIONS)
        (root / "broken.jsonl").write_text(QUESTIONS + "What?\n")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.nobody = f"http://127.0.0.1:{probe.getsockname()[1]}"

    def register(self, number: int, base: BaseModel | None = None) -> str:
        base = base or self.base
        dataset = "d" * 64 if number == 3 else self.dataset
        folder = write_adapter(self.data / f"runs/{number}", number, base_model_name_or_path=base.name)
        card = make_card(base, dataset=dataset)
        return self.registry.register(folder, self.data / "runs", card, base, 16)

    def other_base(self) -> BaseModel:
        base = make_base(self.root / "other models")
        return BaseModel("large", "e" * 64, base.shapes)

    def decided(self) -> dict[str, object]:
        return {"expected_version": self.registry.aliases().version, "now_us": 1, "by": "tester"}

    def served(self) -> tuple[object, ...]:
        aliases = self.registry.aliases()
        return aliases.champion, aliases.challenger, aliases.previous, aliases.share

    def bytes(self) -> dict[str, bytes]:
        """All that is kept, but for the aliases and for what is locked, which holds nothing."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file() and path.suffix != ".lock" and path.name != ALIASES
        }

    def fill_in(self, argument: str) -> str:
        names = {name: str(value) for name, value in vars(self).items()}
        return Template(argument).substitute(names)


def say_nothing(log: CurationLog) -> None:
    for _ in range(3):
        log.answer()


def like_all(log: CurationLog) -> None:
    for number in range(60):
        log.thumb(log.answer(), source_id=f"rater-{number}")


def ask_two(log: CurationLog) -> None:
    for number in range(60):
        log.thumb(log.answer(), up=number % 2 == 0, source_id=f"rater-{number % 2}")


def ask_one_thing(log: CurationLog) -> None:
    prompt = [{"role": "user", "content": "Why?"}]
    for number in range(60):
        log.thumb(log.answer(prompt=prompt), up=number % 2 == 0, source_id=f"rater-{number}")


LOGS: dict[str, Callable[[CurationLog], None]] = {
    "silent": say_nothing,
    "liked": like_all,
    "two-raters": ask_two,
    "one-prompt": ask_one_thing,
}


@contextmanager
def nothing(world: World) -> Iterator[None]:
    yield


@contextmanager
def running_canary(world: World) -> Iterator[None]:
    """Another adapter answers a tenth of the traffic."""
    world.registry.set_challenger(world.undated, **world.decided())
    world.registry.set_share(0.1, **world.decided())
    yield
    assert world.served()[1::2] == (world.undated, 0.1), "the canary is left alone"
    world.registry.clear_challenger(**world.decided())


@contextmanager
def challenged(world: World) -> Iterator[None]:
    """The spare adapter is challenger, and no gate has judged it."""
    world.registry.set_challenger(world.spare, **world.decided())
    yield
    assert world.served()[1::2] == (world.spare, 0.0)
    world.registry.clear_challenger(**world.decided())


@contextmanager
def a_replica(world: World) -> Iterator[None]:
    """Somebody follows the registry, though no service listens."""
    root = world.data / "registry"
    write_state(root, ReplicaState("generator-1", "generator", 10**6, time.time_ns() // 1000 + 10**9, (world.spare,)))
    yield
    remove_state(root, "generator-1")


def held(*parts: str) -> Callable[[World], "contextmanager[None]"]:
    """Another process holds this lock."""

    @contextmanager
    def hold(world: World) -> Iterator[None]:
        lock = try_lock(world.data.joinpath(*parts))
        assert lock is not None
        yield
        lock.close()

    return hold


@dataclass(frozen=True)
class Bad:
    """A command that must be refused."""

    name: str
    command: str
    status: int
    says: str
    meanwhile: Callable = field(default=nothing)


CURATE = "curate --workers 0 --out $data/datasets"
TRAIN = "train --datasets $data/datasets --registry $data/registry --runs $data/runs --log $data/log --model $root/models/tiny"
GATE = "gate --datasets $data/datasets --registry $data/registry --log $data/log --url $nobody"
READY = f"{GATE} --adapter $spare --judge score --prompts $root/questions.jsonl --min-prompts 10"
AT = "--registry $data/registry --timeout 0"

TABLE = [
    Bad("no log", f"{CURATE} --log $root/nowhere", 1, "There is no log at"),
    Bad("no feedback", f"{CURATE} --log $root/silent", 2, "There is no feedback in"),
    Bad("all one class", f"{CURATE} --log $root/liked", 2, "all 60 rows are desirable; KTO learns from the difference"),
    Bad("too few raters", f"{CURATE} --log $root/two-raters", 2, "rows come from 2 raters"),
    Bad("an empty split", f"{CURATE} --log $root/one-prompt --near-duplicate 1", 2, "is empty (rows:"),
    Bad("an export that is none", f"{CURATE} --rows $root/questions.jsonl", 2, "is no Parquet file, or damaged"),
    Bad("an export that is not there", f"{CURATE} --rows $root/nowhere.parquet", 1, "There is no export"),
    Bad("datasets into the log", "curate --workers 0 --log $data/log --out $data/log", 2, "is the log; name another"),
    Bad(
        "nothing to train on",
        f"{CURATE} --log $data/log --eval-share 0.9 --vault-share 0.1",
        2,
        "leave nothing to train on",
    ),
    Bad(
        "two curations at once",
        f"{CURATE} --log $data/log",
        1,
        "Another curation writes to",
        held("datasets", DATASETS_LOCK),
    ),
    Bad("training on no dataset", f"{TRAIN} --dataset {UNKNOWN}", 1, f"There is no dataset {UNKNOWN}"),
    Bad("training on what a path leads to", f"{TRAIN} --dataset ../../etc", 2, "names 0 datasets in"),
    Bad("training on a damaged dataset", f"{TRAIN} --datasets $root/damaged --dataset $dataset", 1, "its sha256 is"),
    Bad(
        "training by a method without rows",
        f"{TRAIN} --dataset $of_thumbs --method dpo",
        2,
        "cannot be used for dpo. dpo: no row",
    ),
    Bad("a rank over the limit", f"{TRAIN} --dataset $dataset --rank 32", 2, "the engine's max_lora_rank is 16"),
    Bad("a rank that no engine has", f"{TRAIN} --dataset $dataset --rank 12", 2, "r is 12; it must be one of 1, 8, 16"),
    Bad(
        "training with DoRA",
        TRAIN + """ --dataset $dataset --lora {"use_dora":true}""",
        2,
        "use_dora is True; it must be off",
    ),
    Bad(
        "training with bias",
        TRAIN + """ --dataset $dataset --lora {"bias":"all"}""",
        2,
        "bias is 'all'; it must be 'none'",
    ),
    Bad("training with LoRA bias", TRAIN + """ --dataset $dataset --lora {"lora_bias":true}""", 2, "lora_bias is True"),
    Bad("a LoRA configuration that is a list", f"{TRAIN} --dataset $dataset --lora [1]", 2, "it must be a JSON object"),
    Bad(
        "modules that the model has not",
        f"{TRAIN} --dataset $dataset --target-modules w_proj",
        2,
        "is no linear layer of 'tiny'",
    ),
    Bad("a model that is not there", f"{TRAIN} --model $root/nowhere --dataset $dataset", 1, "holds no model"),
    Bad(
        "a parent that is not there",
        f"{TRAIN} --dataset $dataset --parent {UNKNOWN}",
        2,
        "names no adapter (none has it)",
    ),
    Bad(
        "a parent that is a path",
        f"{TRAIN} --dataset $dataset --parent ../../etc",
        2,
        "'../../etc' names no adapter",
    ),
    Bad("a truncated parent", f"{TRAIN} --dataset $dataset --parent $damaged", 1, "$damaged is damaged"),
    Bad(
        "a parent of another base model",
        f"{TRAIN} --dataset $dataset --parent $elsewhere",
        2,
        "'large'; it must be 'tiny'",
    ),
    Bad("gating a path", f"{GATE} --adapter ../../etc/passwd", 2, "names no adapter"),
    Bad("gating what is not there", f"{GATE} --adapter {UNKNOWN}", 2, "names no adapter (none has it)"),
    Bad("gating without its dataset", f"{GATE} --adapter $undated", 1, "There is no dataset dddd"),
    Bad(
        "gating with another dataset",
        f"{GATE} --adapter $spare --dataset $of_thumbs",
        2,
        "was trained on the dataset $dataset",
    ),
    Bad("too few held-out prompts", f"{GATE} --adapter $spare", 2, "held-out prompts, and the gate needs at least 60"),
    Bad("no prompts", f"{READY} --prompts $root/nowhere", 1, "There is no file"),
    Bad(
        "a prompt that is none",
        f"{READY} --prompts $root/broken.jsonl",
        2,
        "broken.jsonl, line 13: must be one JSON object",
    ),
    Bad("gating without a log", f"{GATE} --adapter $spare --log $root/nowhere", 1, "There is no log at"),
    Bad("a judge that is not named", f"{READY} --judge llm", 2, "--judge llm needs --judge-url and --judge-model"),
    Bad("a key that is not set", f"{READY} --key-env NO_SUCH_VARIABLE", 2, "'NO_SUCH_VARIABLE', which is not set"),
    Bad("gating where no service follows", READY, 1, "No live replica follows the registry"),
    Bad("gating where nobody listens", READY, 1, "cannot be reached", a_replica),
    Bad("gating a damaged adapter", READY.replace("$spare", "$damaged"), 1, "$damaged is damaged"),
    Bad("gating while a canary runs", READY, 1, "answers 10% of the traffic: a canary runs", running_canary),
    Bad("two gates at once", READY, 1, "Another gate runs", held("registry", GATE_LOCK)),
    Bad(
        "promoting what is no challenger", f"promote $spare {AT}", 1, "is neither challenger (none) nor previous (base)"
    ),
    Bad("promoting what no gate has seen", f"promote {AT}", 1, "The gate has not compared $spare", challenged),
    Bad("promoting past the gate without a reason", f"promote {AT} --ungated", 2, "needs a reason", challenged),
    Bad(
        "promoting upon an older version", f"promote {AT} --expected-version 1", 1, "another one came first", challenged
    ),
    Bad("promoting a damaged adapter", f"promote $damaged {AT}", 1, "$damaged is damaged"),
    Bad("promoting a path", f"promote ../../etc/passwd {AT}", 2, "names no adapter"),
    Bad("promoting what is not there", f"promote {UNKNOWN} {AT}", 2, "names no adapter"),
    Bad("promoting in no registry", "promote $spare --registry $root/nowhere", 2, "names no adapter"),
    Bad("traffic for a damaged adapter", f"canary $damaged {AT}", 1, "$damaged is damaged"),
    Bad("traffic for the champion", f"canary $champion {AT}", 1, "is the champion already"),
    Bad("traffic for a path", f"canary ../adapters {AT}", 2, "names no adapter"),
    Bad("more traffic than there is", f"canary $spare --share 1.5 {AT}", 2, "it must be from 0 to 1"),
    Bad("a share that is no number", f"canary $spare --share nan {AT}", 2, "it must be from 0 to 1"),
    Bad("taking no challenger away", f"canary --clear {AT}", 1, "no challenger to clear"),
    Bad("a rollback upon an older version", f"rollback --expected-version 1 {AT}", 1, "another one came first"),
    Bad(
        "a cycle without a log",
        "cycle --data $root/nowhere --model $root/models/tiny --url $nobody",
        1,
        "There is no log at",
    ),
    Bad("a service that is not there", "status --url $nobody", 1, "is the service running?"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("loop"))


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.name)
def test_a_command_that_cannot_be_done_says_why_and_changes_nothing(world, bad, capsys, monkeypatch):
    # Whatever a command takes from the folder it is started in, it finds nothing there.
    monkeypatch.chdir(world.root)
    before, served = world.bytes(), world.served()
    with bad.meanwhile(world):
        try:
            status = main([world.fill_in(argument) for argument in bad.command.split(" ")])
        except SystemExit as ended:
            status = ended.code
    out, err = capsys.readouterr()
    shown = " ".join(err.split())
    assert world.fill_in(bad.says) in shown, shown
    assert (status, out) == (bad.status, "")
    assert "Traceback" not in shown
    assert world.served() == served == (world.champion, None, BASE, 0.0)
    assert world.bytes() == before
    assert world.registry.verify(world.champion)


@dataclass(frozen=True)
class Unfit:
    """An adapter that must not be registered."""

    name: str
    error: type[RheostatError]
    says: str
    config: dict[str, object] = field(default_factory=dict)
    weights: Callable[[], bytes] | None = None
    card: dict[str, object] = field(default_factory=dict)
    path: str | None = None


def weights_of(rank: int = RANK, shorter: int = 0) -> Callable[[], bytes]:
    return lambda: (data := make_safetensors(make_tensors(9, rank)))[: len(data) - shorter]


UNFIT = [
    Unfit(
        "of another base by its configuration",
        InvalidRequest,
        "it must be 'tiny'",
        {"base_model_name_or_path": "/models/large"},
    ),
    Unfit(
        "of another base by its card",
        InvalidRequest,
        "Train it on the model that is served",
        card={"base_sha256": "e" * 64},
    ),
    Unfit("of a rank over the limit", InvalidRequest, "max_lora_rank is 16", {"r": 32}, weights_of(32)),
    Unfit("with DoRA", InvalidRequest, "an adapter with DoRA is not taken", {"use_dora": True}),
    Unfit("with bias", InvalidRequest, "bias is 'all'; it must be 'none'", {"bias": "all"}),
    Unfit("with LoRA bias", InvalidRequest, "an adapter with LoRA bias is not taken", {"lora_bias": True}),
    Unfit("truncated", InvalidRequest, "it is truncated or damaged", weights=weights_of(shorter=1)),
    Unfit(
        "truncated in its header", InvalidRequest, "is truncated or no safetensors", weights=lambda: weights_of()()[:90]
    ),
    Unfit("of another rank than it says", InvalidRequest, "has the shape", weights=weights_of(16)),
    Unfit("behind a path that leads up", InvalidRequest, "must not hold '..'", path="../runs/unfit"),
    Unfit("behind a path that leads out", InvalidRequest, "leads out of", path="/etc"),
    Unfit("behind a path to nowhere", InvalidRequest, "is no folder", path="nowhere"),
    Unfit("of a parent that is not there", NotFound, "is not registered", card={"parent": UNKNOWN}),
    Unfit("of a training that diverged", InvalidRequest, "training diverged", card={"metrics": {"loss": float("nan")}}),
]


@pytest.mark.parametrize("unfit", UNFIT, ids=lambda unfit: unfit.name)
def test_an_adapter_that_cannot_be_served_is_not_registered_and_the_champion_stays(world, unfit, tmp_path):
    runs = tmp_path / "runs"
    write_adapter(runs / "unfit", 9, weights=unfit.weights and unfit.weights(), **unfit.config)
    before, served, known = world.bytes(), world.served(), world.registry.adapters()
    with pytest.raises(unfit.error) as refused:
        world.registry.register(Path(unfit.path or "unfit"), runs, make_card(world.base, **unfit.card), world.base, 16)
    assert unfit.says in refused.value.message
    assert (world.served(), world.registry.adapters()) == (served, known)
    assert world.bytes() == before
