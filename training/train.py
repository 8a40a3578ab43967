"""Trains a LoRA adapter on a dataset: what is trained on, in which order, and what comes out.

Everything that can be refused is refused before the model is loaded. The torch side is in `trainer_loop`, and is
imported when training begins. Equal dataset, parameters and seed give equal bytes on one machine with equal numbers
of threads; a resumed training gives the bytes of one that was never interrupted. It does not decide whether an adapter
is any good: the gate does. `register_adapter` hands one to the registry.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deployments.controls.calibration import Calibration
from deployments.controls.catalogue import Catalogue
from deployments.feedback.lineage import LINEAGE, read_lineage, record_lineage
from deployments.rollout.adapter_files import (
    CONFIG,
    WEIGHTS,
    AdapterConfig,
    BaseModel,
    check_folder,
    combined_sha256,
    describe_base,
    file_sha256,
)
from deployments.rollout.adapter_store import BASE, AdapterCard
from deployments.rollout.registry import Registry
from graph.errors import InternalError, InvalidRequest
from training.checkpoints import newest
from training.curation import Method
from training.dataset_store import Dataset
from training.parameters import (
    DEFAULT_MAX_LORA_RANK,
    Cluster,
    Parent,
    Precision,
    TrainingParameters,
    check_lora,
    choose_method,
)
from training.prompts import LEFT_OUT, compile_rows
from training.row_order import order_by_weight, order_in_batches
from training.run_folder import ADAPTER, CHECKPOINTS, finished, keep_result, locked, name_of, state

TRAINING_VERSION = 1
"""Of the rules in this module, `parameters` and `trainer_loop`. Raise it when equal inputs give another adapter."""
TOO_LONG = "too_long"
REASONS: Mapping[str, str] = {
    **dict[str, str](LEFT_OUT.items()),
    TOO_LONG: "prompt and answer are over max_length tokens, and cut it would have no end",
}
"""Why rows of the dataset are not trained on."""
_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate")

OnStep = Callable[[int, int, float | None], None]
"""Steps that are done, of how many, and the loss of the last one; None: not known yet."""


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
class _Rows:
    """The rows that are trained on, with their prompts as the graph serves them."""

    method: Method
    rows: Sequence[Mapping[str, Any]]
    tokens: Sequence[int]
    """Of each row."""
    left_out: Counter[str]
    """Rows by why they are not trained on, one of `REASONS`."""
    advice: Mapping[str, Any]
    """How the dataset says that they are to be trained on."""


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
        on_note: Told in plain words of rows left out, of a resumption, of damaged checkpoints and of a wait for the
            cluster.

    Raises:
        InvalidRequest: The dataset cannot be used for the method, no row is left, the adapter is one that vLLM would
            not serve, or training diverged.
        ConfigurationError: The base model is not there, or a library or a GPU, or the cluster can never give what the
            workers need.
        Conflict: The same training runs in another process.
        InternalError: The dataset, or a training's result, is damaged.
        OSError: The disk is full, or fails.
    """
    cluster = Cluster(workers, use_gpu, storage, address)
    base = describe_base(model_folder)
    lora = check_lora(parameters, base, max_lora_rank, model_folder, parent)
    method, why = choose_method(dataset.manifest, parameters.method)
    on_note(f"Method {method}: {why}.")
    served = _served_rows(dataset, method, parameters.max_length, model_folder, catalogue, calibration, on_note)
    settled = _settle(parameters, lora, served)
    order = _order(served, settled, max(1, workers))
    identity = _identity(dataset, base, parent, settled, served, catalogue, calibration, cluster)
    job = _job(name_of(identity), settled, lora, served, order, model_folder, base, parent, use_gpu)
    folder = runs / job.run
    adapter = TrainedAdapter(
        folder=folder / ADAPTER,
        run=job.run,
        dataset=dataset.name,
        method=method,
        why=why,
        parent=identity["parent"],
        base=base,
        seed=parameters.seed,
        metrics=_facts(served, order),
        configuration=identity["configuration"],
    )
    with locked(folder):
        if (done := finished(folder)) is not None:
            on_note(f"The training {job.run[:12]} is done already; its adapter is in {folder}.")
            on_step(job.steps, job.steps, done.get("loss"))
            return replace(adapter, metrics=done)
        state(folder, identity)
        return _run(job, cluster, adapter, lora, folder, on_step, on_note)


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


def _served_rows(
    dataset: Dataset,
    method: Method,
    max_length: int,
    model_folder: Path,
    catalogue: Catalogue,
    calibration: Calibration | None,
    on_note: Callable[[str], None],
) -> _Rows:
    """The rows of the dataset that can be trained on; the others are counted and told."""
    table = dataset.read(method, "train")
    served = compile_rows(table.to_pylist(), catalogue, calibration)
    left_out = Counter[str](served.left_out)
    rows: Sequence[Mapping[str, Any]] = served.rows
    tokens: Sequence[int] = ()
    if rows:
        from training.trainer_loop import count_tokens

        counts = count_tokens(model_folder, rows, method)
        fitting = [place for place, count in enumerate(counts) if count <= max_length]
        if len(fitting) < len(rows):
            left_out[TOO_LONG] = len(rows) - len(fitting)
        rows, tokens = [rows[place] for place in fitting], [counts[place] for place in fitting]
    told = "; ".join(f"{count} because {REASONS[reason]}" for reason, count in sorted(left_out.items()))
    if told:
        on_note(f"Of {table.num_rows} rows are left out: {told}.")
    _check_rows(rows, method, table.num_rows, told)
    return _Rows(method, rows, tokens, left_out, dataset.manifest["methods"][method].get("training", {}))


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


def _settle(parameters: TrainingParameters, lora: AdapterConfig, served: _Rows) -> TrainingParameters:
    """The parameters with nothing left open: what auto, a parent and the dataset decide is filled in."""
    batch_size = parameters.batch_size
    if served.method == "kto":
        batch_size = min(served.advice.get("batch_size", batch_size), len(served.rows))
    return replace(
        parameters,
        method=served.method,
        batch_size=batch_size,
        learning_rate=parameters.rate_of(served.method),
        rank=lora.rank,
        alpha=lora.alpha,
        target_modules=lora.target_modules,
    )


def _order(served: _Rows, settled: TrainingParameters, workers: int) -> list[int]:
    """Places of the rows, in the order that they are trained in."""
    rows = served.rows
    if served.method != "kto":
        weights = [row["weight"] for row in rows]
        return order_by_weight(weights, settled.steps * settled.batch_size * workers, settled.seed)
    return order_in_batches(
        [row["label"] for row in rows],
        [json.dumps(row["prompt"]) for row in rows],
        settled.batch_size,
        settled.steps * workers,
        settled.seed,
        is_ordered=not served.left_out,
    )


def _identity(
    dataset: Dataset,
    base: BaseModel,
    parent: Parent | None,
    settled: TrainingParameters,
    served: _Rows,
    catalogue: Catalogue,
    calibration: Calibration | None,
    cluster: Cluster,
) -> Mapping[str, Any]:
    """All that decides which adapter comes out, as JSON; the run's name is its hash."""
    configuration = {
        "method": settled.method,
        "parameters": asdict(settled),
        "catalogue": catalogue.hash,
        "calibrated": calibration is not None,
        "left_out": dict(sorted(served.left_out.items())),
        "workers": cluster.workers,
        "use_gpu": cluster.use_gpu,
        "code": {"training": TRAINING_VERSION, **{name: version(name) for name in _LIBRARIES}},
    }
    return {
        "dataset": dataset.name,
        "base_sha256": base.sha256,
        "parent": parent.name if parent else BASE,
        "configuration": json.loads(json.dumps(configuration)),
    }


def _job(
    run: str,
    settled: TrainingParameters,
    lora: AdapterConfig,
    served: _Rows,
    order: Sequence[int],
    model_folder: Path,
    base: BaseModel,
    parent: Parent | None,
    use_gpu: bool,
) -> TrainingJob:
    method, advice = served.method, served.advice
    return TrainingJob(
        run=run,
        method=method,
        model_folder=str(model_folder.resolve()),
        base_name=base.name,
        examples=tuple(_example(served.rows[place], method) for place in order),
        batch_size=settled.batch_size,
        steps=settled.steps,
        learning_rate=settled.rate_of(method),
        warmup_steps=round(settled.warmup_share * settled.steps),
        beta=settled.beta,
        max_length=settled.max_length,
        precision=settled.precision,
        checkpoint_steps=settled.checkpoint_steps,
        seed=settled.seed,
        rank=settled.rank,
        alpha=settled.alpha,
        target_modules=settled.target_modules,
        lora={key: value for key, value in settled.lora.items() if value} | {"use_rslora": lora.use_rslora},
        class_weights=(advice.get("desirable_weight", 1.0), advice.get("undesirable_weight", 1.0)),
        parent_folder=str(parent.folder.resolve()) if parent else None,
        use_gpu=use_gpu,
    )


def _example(row: Mapping[str, Any], method: Method) -> Mapping[str, Any]:
    columns = {"sft": ("completion",), "dpo": ("chosen", "rejected"), "kto": ("completion", "label")}
    return {name: row[name] for name in ("prompt", *columns[method])}


def _facts(served: _Rows, order: Sequence[int]) -> Mapping[str, float]:
    """What is known of a training before it begins."""
    return {
        "rows": len(served.rows),
        "left_out": served.left_out.total(),
        "tokens": sum(served.tokens[place] for place in order),
    }


def _run(
    job: TrainingJob,
    cluster: Cluster,
    adapter: TrainedAdapter,
    lora: AdapterConfig,
    folder: Path,
    on_step: OnStep,
    on_note: Callable[[str], None],
) -> TrainedAdapter:
    """Train to the last step, from the newest checkpoint if there is one, and keep what came out."""
    start = newest(folder / CHECKPOINTS, job.run, on_note)
    if start is not None and start.step < job.steps:
        on_note(f"Resumed at step {start.step} of {job.steps}.")
    from training.trainer_loop import run_training

    outcome = run_training(job, cluster, folder, start, on_step, on_note)
    last = outcome.checkpoint
    metrics = {**adapter.metrics, **outcome.metrics, "steps": last.step, "seconds": last.seconds}
    keep_result(folder, last.folder, lora, metrics)
    return replace(adapter, metrics=metrics, resumed_at=outcome.resumed_at)
