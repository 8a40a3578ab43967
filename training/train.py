"""Trains a LoRA adapter on a dataset: what is trained on, under which parameters, and what comes out.

    RUNS/<run>/run.json          what is trained: dataset, base, parent, parameters, seed; the name is its hash
               run.lock          one process at a time
               checkpoints/      of a training that is not done (`checkpoints`); a killed one goes on from the last
               adapter/          adapter_config.json, adapter_model.safetensors
               result.json       metrics and hashes; it comes last, so a run that has one is done

Everything that can be refused is refused before the model is loaded. The torch side is in `trainer_loop`, and is
imported when training begins. Equal dataset, parameters and seed give equal bytes on one machine with equal numbers
of threads; a resumed training gives the bytes of one that was never interrupted. It does not decide whether an adapter
is any good: the gate does. `register_adapter` hands one to the registry.
"""

import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

from deployments.controls.calibration import Calibration
from deployments.controls.catalogue import Catalogue
from deployments.feedback.files import LocalFiles, ensure_directory, replace_file, try_lock
from deployments.feedback.lineage import LINEAGE, read_lineage, record_lineage
from deployments.rollout.adapter_files import (
    CONFIG,
    WEIGHTS,
    AdapterConfig,
    BaseModel,
    check_config,
    check_folder,
    check_weights,
    combined_sha256,
    describe_base,
    file_sha256,
)
from deployments.rollout.registry import BASE, AdapterCard, Registry
from graph.errors import Conflict, InternalError, InvalidRequest
from training.checkpoints import Checkpoint, newest
from training.curation import METHODS, Method
from training.dataset_store import Dataset
from training.prompts import LEFT_OUT, compile_rows
from training.row_order import order_by_weight, order_in_batches

TRAINING_VERSION = 1
"""Of the rules in this module and `trainer_loop`. Raise it when equal inputs give another adapter."""
DEFAULT_MAX_LORA_RANK = 16
"""vLLM's own."""
PREFERENCE: tuple[Method, ...] = ("sft", "dpo", "kto")
"""What ``auto`` takes, first to last: a corrected text says what the answer should be, a pair which of two is better,
a thumb only that one is."""
LEARNING_RATES: Mapping[Method, float] = {"sft": 1e-3, "dpo": 2e-4, "kto": 2e-4}
"""For rank 8 and a few dozen steps of 8 rows on a 135M model."""
TOO_LONG = "too_long"
REASONS: Mapping[str, str] = {
    **dict[str, str](LEFT_OUT.items()),
    TOO_LONG: "prompt and answer are over max_length tokens, and cut it would have no end",
}
"""Why rows of the dataset are not trained on."""
_UNTRAINABLE = ("lm_head", "embed_tokens")
_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate")

Precision = Literal["auto", "float32", "bfloat16"]
OnStep = Callable[[int, int, float | None], None]
"""Steps that are done, of how many, and the loss of the last one; None: not known yet."""


@dataclass(frozen=True, slots=True)
class TrainingParameters:
    """All that decides, beside dataset, base and parent, which adapter comes out."""

    method: Literal["auto", "sft", "dpo", "kto"] = "auto"
    """auto: the first of `PREFERENCE` that the dataset can be used for."""
    steps: int = 48
    batch_size: int = 8
    """Rows a worker and step. For KTO the dataset's own, for which its rows are ordered, takes its place."""
    learning_rate: float | None = None
    """At its highest, after a linear warm-up; it falls to 0 along a cosine. None: the method's, `LEARNING_RATES`."""
    warmup_share: float = 0.1
    """Of the steps."""
    beta: float = 0.1
    """DPO and KTO: how far the policy is held to the reference; higher holds it closer."""
    rank: int = 8
    alpha: float = 16
    target_modules: tuple[str, ...] = ("q_proj", "v_proj")
    lora: Mapping[str, Any] = field(default_factory=dict)
    """More of PEFT's LoraConfig, such as ``{"use_rslora": True}``; what vLLM does not serve is refused."""
    max_length: int = 512
    """Tokens of prompt and answer; longer rows are left out and counted."""
    precision: Precision = "auto"
    """Of the base model's weights while it trains; the adapter's are float32. auto: bfloat16 on a GPU, float32 on a
    CPU."""
    checkpoint_steps: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch_size", 1), ("max_length", 8), ("checkpoint_steps", 1)):
            if getattr(self, name) < least:
                raise InvalidRequest(f"{name} is {getattr(self, name)}; it must be {least} or more.", param=name)
        for name in ("learning_rate", "beta"):
            value = getattr(self, name)
            if value is not None and not (0 < value < math.inf):
                raise InvalidRequest(f"{name} is {value}; it must be above 0.", param=name)
        if not 0 <= self.warmup_share <= 1:
            raise InvalidRequest(f"warmup_share is {self.warmup_share}; it must be from 0 to 1.", param="warmup_share")
        allowed = ("auto", *METHODS)
        if self.method not in allowed:
            raise InvalidRequest(f"method is {self.method!r}; allowed: {', '.join(allowed)}.", param="method")
        if self.precision not in get_args(Precision):
            raise InvalidRequest(
                f"precision is {self.precision!r}; allowed: {', '.join(get_args(Precision))}.", param="precision"
            )
        if not 0 <= self.seed < 2**32:
            raise InvalidRequest(f"seed is {self.seed}; it must be from 0 to 2^32 - 1.", param="seed")


@dataclass(frozen=True, slots=True)
class Parent:
    """A registered adapter that training goes on from; its rank, alpha and modules are kept."""

    name: str
    folder: Path


@dataclass(frozen=True, slots=True)
class TrainedAdapter:
    """What a training came to. ``folder`` holds the adapter; copy it before the runs are removed."""

    folder: Path
    run: str
    """Name of its folder: a hash of all that was trained on."""
    dataset: str
    method: Method
    why: str
    """Why this method."""
    parent: str
    base: BaseModel
    seed: int
    metrics: Mapping[str, float]
    """loss and loss_at_start (means of the last and first 8 steps), mean_token_accuracy, reward_margin (DPO and KTO;
    shown, never a gate), steps, seconds, tokens, rows, left_out."""
    configuration: Mapping[str, Any]
    """JSON; what the card says of how it was trained."""
    resumed_at: int | None = None
    """The step that this call went on from; None: it began at 0, or found the training done."""

    @property
    def name(self) -> str:
        """What the registry will call it: the sha256 of its content."""
        return combined_sha256({name: file_sha256(self.folder / name) for name in (CONFIG, WEIGHTS)})


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """All that a worker needs, as plain data. Made here, read by `trainer_loop`."""

    run: str
    method: Method
    model_folder: str
    base_name: str
    examples: tuple[Mapping[str, Any], ...]
    """TRL's columns, one row a place in the run, in the order that they are trained in."""
    batch_size: int
    steps: int
    learning_rate: float
    warmup_steps: int
    beta: float
    max_length: int
    precision: Precision
    checkpoint_steps: int
    seed: int
    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    lora: Mapping[str, Any]
    class_weights: tuple[float, float]
    """KTO: of desirable and undesirable rows."""
    parent_folder: str | None
    use_gpu: bool


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where it is trained."""

    workers: int = 0
    """Processes of Ray Train; 0: this one, without a cluster."""
    use_gpu: bool = False
    """A GPU for each worker."""
    storage: str | None = None
    """Path or URI (pyarrow.fs) of the checkpoints, for workers on several machines; None: the folder of the run."""
    address: str = "local"
    """Of a Ray cluster that sees the model's folder; ``local`` starts one for this training."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise InvalidRequest(f"workers is {self.workers}; it must be 0 or more.", param="workers")
        if self.storage is not None and not self.workers:
            raise InvalidRequest(
                f"storage is {self.storage!r} with workers 0: in this process the checkpoints stay in the folder of "
                "the run. Leave storage out, or set workers to 1 or more.",
                param="storage",
            )


def train(
    dataset: Dataset,
    model_folder: Path,
    parameters: TrainingParameters,
    runs: Path,
    *,
    catalogue: Catalogue,
    calibration: Calibration | None = None,
    workers: int = 0,
    use_gpu: bool = False,
    storage: str | None = None,
    address: str = "local",
    parent: Parent | None = None,
    max_lora_rank: int = DEFAULT_MAX_LORA_RANK,
    on_step: OnStep = lambda done, total, loss: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> TrainedAdapter:
    """Train an adapter, or go on where a killed call stopped, or find it done. Blocks for minutes.

    Args:
        dataset: Its split ``train`` is used.
        model_folder: The model that is served, with safetensors and a tokenizer.
        runs: Folder of all runs; made if missing.
        catalogue: The knobs that are served; prompts are compiled with it.
        calibration: Of the model that is served; None: not measured.
        workers, use_gpu, storage, address: See `Cluster`.
        parent: The adapter to go on from; None: a new one on the base model.
        max_lora_rank: The engine's setting.
        on_note: Told in plain words of rows left out, of a resumption and of damaged checkpoints.

    Raises:
        InvalidRequest: The dataset cannot be used for the method, no row is left, the adapter is one that vLLM would
            not serve, or training diverged.
        ConfigurationError: The base model is not there, or a library or a GPU.
        Conflict: The same training runs in another process.
        InternalError: The dataset, or a training's result, is damaged.
        OSError: The disk is full, or fails.
    """
    cluster = Cluster(workers, use_gpu, storage, address)
    base = describe_base(model_folder)
    lora = check_lora(parameters, base, max_lora_rank, model_folder, parent)
    method, why = choose_method(dataset.manifest, parameters.method)
    on_note(f"Method {method}: {why}.")
    table = dataset.read(method, "train")
    served = compile_rows(table.to_pylist(), catalogue, calibration)
    left_out = Counter(served.left_out)
    rows: Sequence[Mapping[str, Any]] = served.rows
    tokens: Sequence[int] = ()
    if rows:
        from training.trainer_loop import count_tokens

        counts = count_tokens(model_folder, rows, method)
        fitting = [place for place, count in enumerate(counts) if count <= parameters.max_length]
        if len(fitting) < len(rows):
            left_out[TOO_LONG] = len(rows) - len(fitting)
        rows, tokens = [rows[place] for place in fitting], [counts[place] for place in fitting]
    told = "; ".join(f"{count} because {REASONS[reason]}" for reason, count in sorted(left_out.items()))
    if told:
        on_note(f"Of {table.num_rows} rows are left out: {told}.")
    _check_rows(rows, method, table.num_rows, told)
    training = dataset.manifest["methods"][method].get("training", {})
    batch_size = (
        min(training.get("batch_size", parameters.batch_size), len(rows))
        if method == "kto"
        else (parameters.batch_size)
    )
    order = _order(rows, method, batch_size, parameters, max(1, workers), is_ordered=not left_out)
    learning_rate = parameters.learning_rate or LEARNING_RATES[method]
    configuration = {
        "method": method,
        "parameters": asdict(
            replace(parameters, rank=lora.rank, alpha=lora.alpha, target_modules=lora.target_modules, method=method)
        )
        | {"batch_size": batch_size, "learning_rate": learning_rate},
        "catalogue": catalogue.hash,
        "calibrated": calibration is not None,
        "left_out": dict(sorted(left_out.items())),
        "workers": workers,
        "use_gpu": use_gpu,
        "code": {"training": TRAINING_VERSION, **{name: version(name) for name in _LIBRARIES}},
    }
    identity = {
        "dataset": dataset.name,
        "base_sha256": base.sha256,
        "parent": parent.name if parent else BASE,
        "configuration": json.loads(json.dumps(configuration)),
    }
    run = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    job = TrainingJob(
        run=run,
        method=method,
        model_folder=str(model_folder.resolve()),
        base_name=base.name,
        examples=tuple(_example(rows[place], method) for place in order),
        batch_size=batch_size,
        steps=parameters.steps,
        learning_rate=learning_rate,
        warmup_steps=round(parameters.warmup_share * parameters.steps),
        beta=parameters.beta,
        max_length=parameters.max_length,
        precision=parameters.precision,
        checkpoint_steps=parameters.checkpoint_steps,
        seed=parameters.seed,
        rank=lora.rank,
        alpha=lora.alpha,
        target_modules=lora.target_modules,
        lora={key: value for key, value in parameters.lora.items() if value} | {"use_rslora": lora.use_rslora},
        class_weights=(training.get("desirable_weight", 1.0), training.get("undesirable_weight", 1.0)),
        parent_folder=str(parent.folder.resolve()) if parent else None,
        use_gpu=use_gpu,
    )
    facts = {"rows": len(rows), "left_out": left_out.total(), "tokens": sum(tokens[place] for place in order)}
    adapter = TrainedAdapter(
        folder=runs / run / "adapter",
        run=run,
        dataset=dataset.name,
        method=method,
        why=why,
        parent=identity["parent"],
        base=base,
        seed=parameters.seed,
        metrics={},
        configuration=identity["configuration"],
    )
    return _run(job, cluster, adapter, lora, identity, facts, runs / run, on_step, on_note)


def choose_method(manifest: Mapping[str, Any], asked: str) -> tuple[Method, str]:
    """Return the method and why it is that one.

    Raises:
        InvalidRequest: The dataset cannot be used for it; the message gives the manifest's reason.
    """
    methods = manifest["methods"]
    faults: list[str] = []
    for method in PREFERENCE if asked == "auto" else tuple(name for name in METHODS if name == asked):
        if methods[method]["usable"]:
            passed = f"; {' '.join(faults)}" if faults else ""
            preferred = f"the first of {', '.join(PREFERENCE)} that this dataset can be used for{passed.rstrip('.')}"
            return method, preferred if asked == "auto" else "asked for"
        faults.append(methods[method]["reason"])
    raise InvalidRequest(
        "The dataset cannot be used for " + ("any method" if asked == "auto" else asked) + f". {' '.join(faults)}",
        param="method",
    )


def check_lora(
    parameters: TrainingParameters, base: BaseModel, max_lora_rank: int, model_folder: Path, parent: Parent | None
) -> AdapterConfig:
    """Return the adapter's configuration, checked as the registry will check it; a parent's where there is one.

    Raises:
        InvalidRequest: vLLM would not serve such an adapter, or a module is not one of the model's linear layers.
    """
    asked = {
        **parameters.lora,
        "base_model_name_or_path": str(model_folder.resolve()),
        "lora_alpha": parameters.alpha,
        "peft_type": "LORA",
        "r": parameters.rank,
        "target_modules": list(parameters.target_modules),
    }
    config = check_config(json.dumps(asked).encode(), base, max_lora_rank)
    if parent is not None:
        folder = check_folder(parent.folder.resolve(), parent.folder.resolve())
        config = check_config((folder / CONFIG).read_bytes(), base, max_lora_rank)
        check_weights(folder / WEIGHTS, config, base)
    for target in config.target_modules:
        is_linear = any(
            len(shape) == 2 and (name == f"{target}.weight" or name.endswith(f".{target}.weight"))
            for name, shape in base.shapes.items()
        )
        if not is_linear or target.rpartition(".")[2] in _UNTRAINABLE:
            found = {name.split(".")[-2] for name, shape in base.shapes.items() if len(shape) == 2}
            known = ", ".join(sorted(found - set(_UNTRAINABLE)))
            raise InvalidRequest(
                f"The target module {target!r} is no linear layer of {base.name!r} that can be trained; it has: "
                f"{known}.",
                param="target_modules",
            )
    return config


def register_adapter(
    trained: TrainedAdapter,
    dataset: Dataset,
    registry: Registry,
    runs: Path,
    log_root: Path,
    *,
    now_us: int,
    max_lora_rank: int = DEFAULT_MAX_LORA_RANK,
) -> str:
    """Register an adapter and keep which rows of the log it was trained on; return its name. Again: nothing.

    Lineage comes first, as for datasets: no adapter is there that an erasure could not find. It includes the rows
    that a parent was trained on.

    Raises:
        As `Registry.register` and `record_lineage` do; nothing is registered then.
    """
    name = trained.name
    event_ids = dataset.event_ids(trained.method, ["train"])
    if trained.parent != BASE:
        known = log_root / LINEAGE / f"{trained.parent}.parquet"
        if known.exists():
            event_ids |= set(read_lineage(known).column(0).to_pylist())
    check_folder(trained.folder.resolve(), runs)
    record_lineage(log_root, name, dataset.name, event_ids)
    card = AdapterCard(
        dataset=dataset.name,
        base_model=trained.base.name,
        base_sha256=trained.base.sha256,
        configuration=trained.configuration,
        seed=trained.seed,
        metrics=trained.metrics,
        parent=trained.parent,
        created_us=now_us,
    )
    registered = registry.register(trained.folder.resolve(), runs, card, trained.base, max_lora_rank)
    if registered != name:
        raise InternalError(f"The registry calls the adapter {registered}, its lineage is under {name}: train again.")
    return registered


def _check_rows(rows: Sequence[Mapping[str, Any]], method: Method, total: int, told: str) -> None:
    if not rows:
        raise InvalidRequest(
            f"{method}: none of the {total} rows can be trained on: {told}. Collect feedback on answers of the "
            "catalogue that is served now, or raise max_length.",
            param="dataset",
            code="no_feedback",
        )
    if method == "kto" and len({row["label"] for row in rows}) < 2:
        raise InvalidRequest(
            f"kto: the {len(rows)} rows that are left are all of one class, and both are needed: {told}. Send thumbs, "
            "up and down.",
            param="dataset",
            code="one_class",
        )


def _order(
    rows: Sequence[Mapping[str, Any]],
    method: Method,
    batch_size: int,
    parameters: TrainingParameters,
    workers: int,
    is_ordered: bool,
) -> list[int]:
    if method != "kto":
        weights = [row["weight"] for row in rows]
        return order_by_weight(weights, parameters.steps * batch_size * workers, parameters.seed)
    return order_in_batches(
        [row["label"] for row in rows],
        [json.dumps(row["prompt"]) for row in rows],
        batch_size,
        parameters.steps * workers,
        parameters.seed,
        is_ordered,
    )


def _example(row: Mapping[str, Any], method: Method) -> Mapping[str, Any]:
    columns = {"sft": ("completion",), "dpo": ("chosen", "rejected"), "kto": ("completion", "label")}
    return {name: row[name] for name in ("prompt", *columns[method])}


def _run(
    job: TrainingJob,
    cluster: Cluster,
    adapter: TrainedAdapter,
    lora: AdapterConfig,
    identity: Mapping[str, Any],
    facts: Mapping[str, float],
    folder: Path,
    on_step: OnStep,
    on_note: Callable[[str], None],
) -> TrainedAdapter:
    files = LocalFiles()
    ensure_directory(folder, files)
    lock = try_lock(folder / "run.lock")
    if lock is None:
        raise Conflict(f"Another process trains {job.run[:12]} in {folder} just now; wait for it, then start again.")
    try:
        if (done := _finished(folder)) is not None:
            on_note(f"The training {job.run[:12]} is done already; its adapter is in {folder}.")
            on_step(job.steps, job.steps, done.get("loss"))
            return replace(adapter, metrics=done)
        replace_file(folder / "run.json", _encode(identity), files)
        start: Checkpoint | None = newest(folder / "checkpoints", job.run, on_note)
        if start is not None and start.step < job.steps:
            on_note(f"Resumed at step {start.step} of {job.steps}.")
        from training.trainer_loop import run_training

        outcome = run_training(job, cluster, folder, start, on_step, on_note)
        metrics = {**facts, **outcome.metrics, "steps": outcome.checkpoint.step, "seconds": outcome.checkpoint.seconds}
        _keep_result(outcome.checkpoint.folder, folder, lora, metrics, files)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return replace(adapter, metrics=metrics, resumed_at=outcome.resumed_at)
    finally:
        lock.close()


def _keep_result(
    checkpoint: Path, folder: Path, lora: AdapterConfig, metrics: Mapping[str, float], files: LocalFiles
) -> None:
    """The adapter in its place, with the one spelling of its configuration, and then the result."""
    made, target = folder / "adapter.tmp", folder / "adapter"
    shutil.rmtree(made, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    made.mkdir()
    replace_file(made / CONFIG, lora.encode(), files)
    replace_file(made / WEIGHTS, (checkpoint / WEIGHTS).read_bytes(), files)
    files.rename(made, target)
    files.fsync_dir(folder)
    sha256 = {name: file_sha256(target / name) for name in (CONFIG, WEIGHTS)}
    replace_file(folder / "result.json", _encode({"metrics": dict(metrics), "files": sha256}), files)


def _finished(folder: Path) -> dict[str, float] | None:
    """The metrics of a training that is done; None: it is not, or its adapter is not as it was."""
    try:
        result = json.loads((folder / "result.json").read_bytes())
        if all(file_sha256(folder / "adapter" / name) == sha256 for name, sha256 in result["files"].items()):
            metrics: dict[str, float] = result["metrics"]
            return metrics
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return None


def _encode(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
