"""``python -m training train``: a dataset becomes a registered adapter."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from deployments.rollout.adapter_files import ALLOWED_RANKS
from deployments.rollout.adapter_store import BASE
from deployments.rollout.operations import complete_name
from deployments.rollout.registry import Registry
from graph.errors import InvalidRequest
from graph.settings import PROJECT_ROOT
from training.commands import flag
from training.curation import METHODS
from training.dataset_store import Dataset, list_datasets, open_dataset
from training.parameters import DEFAULT_MAX_LORA_RANK, Parent, TrainingParameters
from training.progress import progress_on
from training.train import register_adapter, train

HELP = "train an adapter on a dataset and register it"
_CONFIGS = PROJECT_ROOT / "configs"
_DEFAULTS = TrainingParameters()
_CHAMPION = "champion"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--dataset", required=True, metavar="NAME|PATH", help="name, its first digits, or folder")
    parser.add_argument(
        "--datasets", type=Path, default=Path("data/datasets"), metavar="DIR", help="where datasets are"
    )
    parser.add_argument("--method", choices=("auto", *METHODS), default=_DEFAULTS.method, help="auto: sft, dpo or kto")
    parser.add_argument(
        "--parent", default=BASE, metavar="ADAPTER", help="go on from this adapter; champion; base: begin anew"
    )
    parser.add_argument("--model", type=Path, default=None, metavar="DIR", help="model that is served [the packaged]")
    parser.add_argument("--registry", type=Path, default=Path("data/registry"), metavar="DIR", help="of adapters")
    parser.add_argument("--runs", type=Path, default=Path("data/runs"), metavar="DIR", help="where trainings are kept")
    parser.add_argument(
        "--log", type=Path, default=Path("data/log"), metavar="DIR", help="root of the log, for lineage"
    )
    parser.add_argument("--controls", type=Path, default=_CONFIGS / "controls.yaml", metavar="FILE", help="catalogue")
    parser.add_argument(
        "--calibration", type=Path, default=None, metavar="FILE", help="of the model that is served, as in its settings"
    )
    parser.add_argument("--model-id", default=None, metavar="ID", help="that the calibration is of [the rows' model]")
    for name, metavar, text in (
        ("steps", "N", "optimizer steps"),
        ("batch_size", "N", "rows a worker and step; KTO takes the dataset's"),
        ("rank", "N", f"of the adapter: {', '.join(map(str, ALLOWED_RANKS))}, up to --max-lora-rank"),
        ("max_length", "N", "tokens of prompt and answer; longer rows are left out"),
        ("checkpoint_steps", "N", "steps from one checkpoint to the next"),
        ("seed", "N", "of the adapter's first weights and the rows' order"),
    ):
        parser.add_argument(flag(name), type=int, default=getattr(_DEFAULTS, name), metavar=metavar, help=text)
    for name, text in (
        ("alpha", "the adapter's scale is alpha/rank"),
        ("warmup_share", "of the steps"),
        ("beta", "DPO and KTO: higher stays closer to the reference"),
    ):
        parser.add_argument(flag(name), type=float, default=getattr(_DEFAULTS, name), metavar="X", help=text)
    parser.add_argument("--learning-rate", type=float, default=None, metavar="X", help="at its highest [the method's]")
    parser.add_argument(
        "--target-modules", nargs="+", default=list(_DEFAULTS.target_modules), metavar="NAME", help="linear layers"
    )
    parser.add_argument(
        "--lora", type=json.loads, default={}, metavar="JSON", help='more of PEFT\'s LoraConfig: {"use_rslora": true}'
    )
    parser.add_argument(
        "--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="of the base model"
    )
    parser.add_argument(
        "--max-lora-rank", type=int, default=DEFAULT_MAX_LORA_RANK, metavar="N", help="the engine's setting"
    )
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="of Ray Train; 0: this process alone")
    parser.add_argument("--use-gpu", action="store_true", help="a GPU for each worker")
    parser.add_argument("--storage", default=None, metavar="URI", help="of checkpoints (pyarrow.fs), with workers")
    parser.add_argument("--ray", default="local", metavar="ADDRESS", help="Ray cluster; local: one for this run")


def run(options: argparse.Namespace, messages: Console) -> None:
    """Train, register, and print the adapter's name, path and metrics as JSON.

    Raises:
        As `training.train.train` and `register_adapter`.
    """
    from deployments.controls.calibration import load_calibration
    from deployments.controls.catalogue import load_catalogue
    from deployments.generator.model_store import resolve_model

    if not isinstance(options.lora, dict):
        raise InvalidRequest(f"--lora is {options.lora!r}; it must be a JSON object.", param="lora")
    dataset = find_dataset(options.dataset, options.datasets)
    registry = Registry(options.registry)
    model_folder = Path(resolve_model(None if options.model is None else str(options.model)))
    catalogue = load_catalogue(options.controls)
    calibration = None
    if options.calibration is not None:
        model_id = options.model_id or json.loads(options.calibration.read_bytes()).get("model", "")
        calibration = load_calibration(options.calibration, model=model_id, catalogue=catalogue)
    parameters = TrainingParameters(
        **{
            name: getattr(options, name)
            for name in (
                "method",
                "steps",
                "batch_size",
                "learning_rate",
                "warmup_share",
                "beta",
                "rank",
                "alpha",
                "lora",
                "max_length",
                "precision",
                "checkpoint_steps",
                "seed",
            )
        },
        target_modules=tuple(sorted(set(options.target_modules))),
    )
    with progress_on(messages) as progress:
        task = progress.add_task("preparing", total=parameters.steps)

        def show(done: int, total: int, loss: float | None) -> None:
            text = "training" if loss is None else f"training, loss {loss:.3f}"
            progress.update(task, description=text, completed=done, total=total)

        trained = train(
            dataset,
            model_folder,
            parameters,
            options.runs,
            catalogue=catalogue,
            calibration=calibration,
            workers=options.workers,
            use_gpu=options.use_gpu,
            storage=options.storage,
            address=options.ray,
            parent=find_parent(options.parent, registry),
            max_lora_rank=options.max_lora_rank,
            on_step=show,
            on_note=lambda note: messages.print(note, markup=False, highlight=False),
        )
    adapter = register_adapter(
        trained,
        dataset,
        registry,
        options.runs,
        options.log,
        now_us=time.time_ns() // 1000,
        max_lora_rank=options.max_lora_rank,
    )
    messages.print(f"Registered {adapter}. Next: python -m training gate", markup=False, highlight=False)
    told: dict[str, Any] = {
        "adapter": adapter,
        "path": str(registry.path(adapter)),
        "method": trained.method,
        "why": trained.why,
        "parent": trained.parent,
        "dataset": dataset.name,
        "resumed_at": trained.resumed_at,
        "metrics": dict(trained.metrics),
    }
    print(json.dumps(told))


def find_dataset(asked: str, root: Path) -> Dataset:
    """Return the dataset of this name, of which these are the first digits (8 or more), or in this folder.

    Raises:
        InvalidRequest: There is none such, or several.
        NotFound, InternalError: As `open_dataset`.
    """
    path = Path(asked)
    if path.is_dir() and len(path.name) == 64:
        return open_dataset(path.parent, path.name)
    if len(asked) == 64:
        return open_dataset(root, asked)
    names = list_datasets(root)
    found = [name for name in names if len(asked) >= 8 and name.startswith(asked)]
    if len(found) != 1:
        raise InvalidRequest(
            f"--dataset is {asked!r}, which names {len(found)} datasets in {root}; there are: "
            f"{', '.join(name[:12] for name in names) or 'none'}. Give 8 or more of a name's first digits, or make "
            "one: python -m training curate",
            param="dataset",
        )
    return open_dataset(root, found[0])


def find_parent(asked: str, registry: Registry) -> Parent | None:
    """Return the adapter to go on from, checked byte by byte; None: the base model.

    Args:
        asked: A name or its first digits, ``champion`` or ``base``.

    Raises:
        InvalidRequest, NotFound, InternalError: As `Registry.verify`.
    """
    name = registry.aliases().champion if asked == _CHAMPION else asked
    name = name if name == BASE else complete_name(registry, name)
    return None if name == BASE else Parent(name, registry.verify(name))
