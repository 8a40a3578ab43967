"""The torch side of training: TRL's trainers under Ray Train, in this process or in workers. Called by `train` only.

The one module that imports torch, transformers, TRL, PEFT and Ray Train, and it is imported when training begins.
What is trained on, in which order and under which numbers is decided before (`train.TrainingJob`); here it is handed
to TRL 1.16 in a form in which it shuffles, drops and cuts nothing.
"""

import json
import logging
import math
import os
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Nothing here may ask or tell a hub anything: TRL tells of each training otherwise (trl/trainer/base_trainer.py).
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from graph.errors import ConfigurationError, InternalError, InvalidRequest, RheostatError
from training.checkpoints import Checkpoint, keep, newest, read, seal
from training.cluster_room import find_wait
from training.curation import Method
from training.parameters import Cluster
from training.prompts import break_up_marks
from training.run_folder import CHECKPOINTS
from training.train import OnStep, TrainingJob

_LOSSES = 8
"""Steps that a stated loss is the mean of: a batch of 8 rows says little alone."""
_STATE = "trainer_state.json"
_COLUMNS = ("completion", "chosen", "rejected")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training came to."""

    checkpoint: Checkpoint
    """Of the last step; it holds the adapter."""
    metrics: Mapping[str, float]
    resumed_at: int | None


def count_tokens(model_folder: Path, rows: Sequence[Mapping[str, Any]], method: Method) -> list[int]:
    """Return the tokens of each row: prompt and answer; of a pair, the longer one.

    Raises:
        ConfigurationError: The model has no tokenizer with a chat template.
    """
    tokenizer = _load_tokenizer(model_folder)
    columns = ("chosen", "rejected") if method == "dpo" else ("completion",)
    marks = tokenizer.all_special_tokens
    texts = [_plain([*row["prompt"], *row[column]], marks) for row in rows for column in columns]
    encoded = tokenizer.apply_chat_template(texts, tokenize=True, return_dict=True)["input_ids"]
    lengths = [len(ids) for ids in encoded]
    return [max(lengths[at : at + len(columns)]) for at in range(0, len(lengths), len(columns))]


def run_training(
    job: TrainingJob,
    cluster: Cluster,
    folder: Path,
    start: Checkpoint | None,
    on_step: OnStep,
    on_note: Callable[[str], None],
) -> Outcome:
    """Train to the last step; return its checkpoint, which lies in the run's folder.

    Args:
        folder: Of the run; this process holds its lock.
        start: The checkpoint to go on from, in this folder; workers of a cluster find theirs in the storage.

    Raises:
        InvalidRequest: Training diverged.
        ConfigurationError: There is no GPU, or the cluster has not what was asked for.
        InternalError: Ray Train or TRL failed.
    """
    if not cluster.workers:
        return _train_here(job, folder, start, on_step)
    return _train_in_workers(job, cluster, folder, on_step, on_note)


def _train_here(job: TrainingJob, folder: Path, start: Checkpoint | None, on_step: OnStep) -> Outcome:
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    on_step(start.step if start else 0, job.steps, None)
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)

    def keep_here(made: Path, step: int, seconds: float) -> None:
        keep(made, job.run, step, seconds, folder / CHECKPOINTS)

    def loop() -> None:
        if start is None or start.step < job.steps:
            _fit(job, work, start, keep_here, on_step)

    try:
        # With 0 workers Ray Train calls the function in this process, and starts no cluster.
        with _quiet():
            TorchTrainer(loop, scaling_config=ScalingConfig(num_workers=0, use_gpu=job.use_gpu)).fit()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    last = newest(folder / CHECKPOINTS, job.run)
    if last is None or last.step != job.steps:
        raise InternalError(f"The training {job.run[:12]} ended without its last checkpoint. Start it again.")
    return Outcome(last, _read_metrics(last.folder), start.step if start else None)


def _train_in_workers(
    job: TrainingJob, cluster: Cluster, folder: Path, on_step: OnStep, on_note: Callable[[str], None]
) -> Outcome:
    import ray
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.util.queue import Queue

    storage = cluster.storage or str((folder / "ray").resolve())
    with _ray(cluster):
        total = ray.cluster_resources()
        cpus = max(1, int(total.get("CPU", 0)) // cluster.workers)
        per_worker: dict[str, float] = {"CPU": cpus, **({"GPU": 1} if job.use_gpu else {})}
        wait = find_wait(cluster.workers, per_worker, total, ray.available_resources())
        if wait is not None:
            on_note(wait)
        steps: Any = Queue(actor_options={"num_cpus": 0})
        trainer = TorchTrainer(
            _worker,
            train_loop_config={"job": job, "steps": steps},
            torch_config=TorchConfig(backend="nccl" if job.use_gpu else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=cluster.workers, use_gpu=job.use_gpu, resources_per_worker=per_worker
            ),
            run_config=RunConfig(
                # Equal names share their checkpoints: that is how a killed training goes on.
                name=job.run,
                storage_path=storage,
                checkpoint_config=CheckpointConfig(num_to_keep=2),
                failure_config=FailureConfig(max_failures=0),
            ),
        )
        ended = threading.Event()
        resumed: list[int] = []
        told = threading.Thread(target=_follow, args=(steps, job.steps, ended, on_step, on_note, resumed), daemon=True)
        told.start()
        try:
            result = trainer.fit()
        except ray.exceptions.RayError as error:
            raise _as_ours(error) from error
        except Exception as error:
            # Ray Train's own errors share no public base class with Ray's.
            raise _as_ours(error) from error
        finally:
            ended.set()
            told.join(10)
            with suppress(Exception):  # the actor may be gone with its node
                steps.shutdown(force=True)
        if result.checkpoint is None:
            raise InternalError(f"Ray Train gave no checkpoint back for {job.run[:12]}. Start the training again.")
        target = folder / CHECKPOINTS / f"step-{job.steps:08d}"
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(exist_ok=True)
        result.checkpoint.to_directory(str(target))
    try:
        last = read(target, job.run)
    except ValueError as error:
        raise InternalError(f"The last checkpoint of {job.run[:12]} was damaged on its way: {error}.") from error
    if cluster.storage is None:
        shutil.rmtree(folder / "ray", ignore_errors=True)
    return Outcome(last, _read_metrics(last.folder), resumed[0] if resumed else None)


def _worker(config: dict[str, Any]) -> None:
    """The train function of one worker of Ray Train."""
    import ray.train

    job: TrainingJob = config["job"]
    steps = config["steps"]
    is_first = ray.train.get_context().get_world_rank() == 0

    def tell(kind: str, *values: Any) -> None:
        if is_first:
            steps.put((kind, *values))

    with tempfile.TemporaryDirectory(prefix="rheostat-training-") as work:
        start = _reported_checkpoint(job, Path(work), lambda note: tell("note", note))
        tell("start", start.step if start else None)

        def report(made: Path | None, step: int, seconds: float) -> None:
            checkpoint = None
            if is_first and made is not None:
                seal(made, job.run, step, seconds)
                checkpoint = ray.train.Checkpoint.from_directory(str(made))
            # All workers must call it.
            ray.train.report(
                {"step": step}, checkpoint=checkpoint, checkpoint_dir_name=f"step-{step:08d}-{time.time_ns()}"
            )
            if made is not None:
                shutil.rmtree(made, ignore_errors=True)

        if start is None or start.step < job.steps:
            _fit(job, Path(work, "trainer"), start, report, lambda done, total, loss: tell("step", done, loss))
        else:
            # Ray forgets a checkpoint that this start did not report.
            report(start.folder if is_first else None, start.step, start.seconds)


def _reported_checkpoint(job: TrainingJob, work: Path, on_note: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole checkpoint that an earlier start reported to the storage; each worker comes to the same one."""
    import ray.train

    latest = ray.train.get_checkpoint()
    if latest is None:
        return None
    reported = [each.checkpoint for each in ray.train.get_all_reported_checkpoints()]
    for number, checkpoint in enumerate([latest, *reversed(reported)]):
        if number and checkpoint.path == latest.path:
            continue
        folder = work / f"start-{number}"
        try:
            checkpoint.to_directory(str(folder))
            return read(folder, job.run)
        except (OSError, ValueError) as error:
            on_note(f"The checkpoint {checkpoint.path} is not used: {error}.")
    return None


def _fit(
    job: TrainingJob,
    work: Path,
    start: Checkpoint | None,
    on_checkpoint: Callable[[Path, int, float], None],
    on_step: OnStep,
) -> None:
    """Train from the start to the last step in this process; each checkpoint's folder is handed over, to be moved."""
    import torch
    import transformers
    from transformers import PrinterCallback, TrainerCallback

    if job.use_gpu and not torch.cuda.is_available():
        raise ConfigurationError("A GPU was asked for and torch finds none here; train without use_gpu.")

    begun = time.monotonic()
    seconds_before = start.seconds if start else 0.0

    class Follow(TrainerCallback):
        """Tells each step, stops what diverges before it is saved, and hands checkpoints over."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
            if "loss" not in (logs or {}):
                return
            for name in ("loss", "grad_norm"):
                if not math.isfinite(logs.get(name, 0.0)):
                    raise InvalidRequest(
                        f"Training diverged at step {state.global_step}: {name} is {logs[name]}. Lower the learning "
                        f"rate, {job.learning_rate:g}, or raise warmup_share. Nothing was registered.",
                        param="learning_rate",
                        code="diverged",
                    )
            if state.is_world_process_zero:
                on_step(state.global_step, job.steps, logs["loss"])

        def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            made = Path(args.output_dir, f"checkpoint-{state.global_step}")
            for name in ("README.md", "training_args.bin"):
                # A card of TRL's, and a pickle that nobody reads.
                (made / name).unlink(missing_ok=True)
            on_checkpoint(made, state.global_step, seconds_before + time.monotonic() - begun)

    with _quiet():
        transformers.set_seed(job.seed)
        trainer = _make_trainer(job, work)
        trainer.remove_callback(PrinterCallback)  # it prints each log to the standard output
        trainer.add_callback(Follow())
        trainer.train(resume_from_checkpoint=str(start.folder) if start else None)


def _make_trainer(job: TrainingJob, work: Path) -> Any:
    import torch
    from datasets import Dataset  # type: ignore[import-untyped]
    from peft import LoraConfig, PeftModel
    from transformers import AutoModelForCausalLM
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.kto_config import KTOConfig
    from trl.trainer.kto_trainer import KTOTrainer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    tokenizer = _load_tokenizer(Path(job.model_folder))
    is_bfloat16 = job.precision == "bfloat16" or (job.precision == "auto" and job.use_gpu)
    model: Any = AutoModelForCausalLM.from_pretrained(
        job.model_folder, dtype=torch.bfloat16 if is_bfloat16 else torch.float32, local_files_only=True
    )
    common: dict[str, Any] = {
        "output_dir": str(work),
        "max_steps": job.steps,
        "per_device_train_batch_size": job.batch_size,
        "learning_rate": job.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": job.warmup_steps,
        "max_length": job.max_length,
        "train_sampling_strategy": "sequential",
        "bf16": False,  # autocast; the weights' own type says it
        "gradient_checkpointing": False,
        "seed": job.seed,
        "use_cpu": not job.use_gpu,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": job.checkpoint_steps,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": job.use_gpu,
        "ddp_find_unused_parameters": False,
    }
    # PEFT's target_modules is a set, and its order in memory another in each process; a list keeps its order.
    peft_config = LoraConfig(
        r=job.rank,
        lora_alpha=job.alpha,  # type: ignore[arg-type]  # a float is served as it is
        target_modules=list(job.target_modules),
        task_type="CAUSAL_LM",
        **job.lora,
    )
    if job.parent_folder is not None:
        # TRL's reference is then a frozen copy of the parent, not the base.
        model = PeftModel.from_pretrained(model, job.parent_folder, is_trainable=True)
    shared: dict[str, Any] = {
        "model": model,
        "train_dataset": Dataset.from_list(_plain_examples(job.examples, tokenizer.all_special_tokens)),
        "processing_class": tokenizer,
        "peft_config": None if job.parent_folder is not None else peft_config,
    }
    match job.method:
        case "sft":
            return SFTTrainer(args=SFTConfig(**common), **shared)
        case "dpo":
            return DPOTrainer(args=DPOConfig(beta=job.beta, **common), **shared)
        case "kto":
            desirable, undesirable = job.class_weights
            weights: dict[str, Any] = {"desirable_weight": desirable, "undesirable_weight": undesirable}
            return KTOTrainer(args=KTOConfig(beta=job.beta, **weights, **common), **shared)


def _plain_examples(examples: Sequence[Mapping[str, Any]], marks: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {name: _plain(value, marks) if isinstance(value, list) else value for name, value in example.items()}
        for example in examples
    ]


def _plain(turns: Sequence[Mapping[str, str]], marks: Sequence[str]) -> list[dict[str, str]]:
    return [{"role": turn["role"], "content": break_up_marks(turn["content"], marks)} for turn in turns]


def _load_tokenizer(folder: Path) -> Any:
    try:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except ImportError as error:
        raise ConfigurationError(
            f"transformers cannot be imported ({error}); install the training requirements."
        ) from (error)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{folder} holds no tokenizer that can be read: {error}") from error
    if not tokenizer.chat_template:
        raise ConfigurationError(f"The tokenizer in {folder} has no chat template; prompts are made with it.")
    return tokenizer


def _read_metrics(checkpoint: Path) -> dict[str, float]:
    """From the log of all steps, which goes on over resumptions."""
    history = json.loads((checkpoint / _STATE).read_bytes())["log_history"]

    def mean(key: str, entries: Sequence[Mapping[str, Any]]) -> float | None:
        values = [entry[key] for entry in entries if key in entry and math.isfinite(entry[key])]
        return sum(values) / len(values) if values else None

    steps = [entry for entry in history if "loss" in entry]
    last = steps[-_LOSSES:]
    found = {
        "loss": mean("loss", last),
        "loss_at_start": mean("loss", steps[:_LOSSES]),
        "mean_token_accuracy": mean("mean_token_accuracy", last),
        "reward_margin": mean("rewards/margins", last),
    }
    return {name: value for name, value in found.items() if value is not None}


@contextmanager
def _quiet() -> Iterator[None]:
    """Libraries that would print, warn and draw bars among our own messages."""
    import datasets
    import transformers

    ray_logger = logging.getLogger("ray.train")
    ray_level = ray_logger.level
    ray_logger.setLevel(logging.WARNING)
    said: Any = transformers.logging  # untyped
    level = said.get_verbosity()
    said.set_verbosity_error()
    said.disable_progress_bar()
    drew = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        ray_logger.setLevel(ray_level)
        said.set_verbosity(level)
        said.enable_progress_bar()
        if not drew:
            datasets.enable_progress_bars()


@contextmanager
def _ray(cluster: Cluster) -> Iterator[None]:
    """A Ray: the one that this process is in, else one of our own."""
    import ray

    if own := not ray.is_initialized():
        scratch = tempfile.TemporaryDirectory(prefix="rheostat-ray-", ignore_cleanup_errors=True)
        options: dict[str, Any] = {"log_to_driver": False}
        if cluster.address == "local":
            options |= {"include_dashboard": False, "_temp_dir": scratch.name}
        ray.init(address=cluster.address, **options)
    try:
        yield
    finally:
        if own:
            ray.shutdown()
            scratch.cleanup()


def _follow(
    steps: Any,
    total: int,
    ended: threading.Event,
    on_step: OnStep,
    on_note: Callable[[str], None],
    resumed: list[int],
) -> None:
    """Pass on what the first worker says, until the training ended and its queue is empty."""
    from ray.util.queue import Empty

    while True:
        try:
            kind, *values = steps.get(timeout=0.5)
        except Empty:
            if ended.is_set():
                return
            continue
        except Exception:  # noqa: BLE001 - the queue is gone; what matters is said by the training's own error
            return
        match kind:
            case "note":
                on_note(*values)
            case "start":
                if values[0] is not None:
                    resumed.append(values[0])
                    on_note(f"Resumed at step {values[0]} of {total}.")
                on_step(values[0] or 0, total, None)
            case "step":
                on_step(values[0], total, values[1])


def _as_ours(error: BaseException) -> RheostatError:
    """Our error inside one of Ray's, or that Ray Train failed."""
    seen: list[BaseException] = [error]
    for each in seen:
        if isinstance(each, RheostatError):
            return each
        inner = [getattr(each, "cause", None), getattr(each, "training_failed_error", None), each.__cause__]
        inner += list(getattr(each, "worker_failures", {}).values())
        seen += [one for one in inner if isinstance(one, BaseException) and one not in seen]
    return InternalError(f"Ray Train failed: {error}. Start the training again, or in this process: --workers 0.")
