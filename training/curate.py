"""Makes a dataset: exports the log's signals, prepares the rows (in Ray Data), selects among them, writes the folder.

A shell: `rows` and `selection` decide, `dataset_store` writes. The rows' order does not matter to them, so a cluster
and a single process write equal bytes.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from deployments.feedback.analysis.period import Scope
from deployments.feedback.analysis.training_rows import EXPORT_SCHEMA, write_training_rows
from deployments.feedback.analysis.views import open_views
from deployments.feedback.contracts import BUILT_IN, MetricContract
from deployments.feedback.erasure import TOMBSTONE_COLUMNS, Erasures
from deployments.feedback.files import FileLayer
from deployments.feedback.parquet_files import read_parquet
from deployments.feedback.snapshot import Snapshot, open_snapshot
from graph.errors import ConfigurationError, InternalError, InvalidRequest, NotFound, RheostatError
from training.curation import CURATION_VERSION, METHODS, CurationParameters, Method
from training.dataset_store import Dataset, file_name, locked, write_dataset
from training.rows import CANDIDATE_SCHEMA, to_candidates
from training.selection import Selection, select

MANIFEST_FORMAT = 1
BATCH_ROWS = 1024
_ATTEMPTS = 3
"""Compaction may remove a file of the archive while it is read."""

OnStep = Callable[[str, int, int], None]
"""What is done; how many rows of it are; of how many, 0: not known."""
Prepare = Callable[[pa.Table], pa.Table]


class Runner(Protocol):
    """Applies ``prepare`` to all rows of the export files, in batches, and returns the results in any order."""

    def __call__(self, paths: Sequence[Path], prepare: Prepare, on_rows: Callable[[int], None]) -> pa.Table: ...


@dataclass(frozen=True, slots=True)
class LogSource:
    """The log that the rows come from, or that says what was erased since."""

    root: Path
    contracts: Mapping[str, MetricContract] | None = None
    """Metrics by name; None: the built-in ones."""
    scope: Scope | None = None
    """Whose signals, and of when; None: all."""


def prepare_in_process(paths: Sequence[Path], prepare: Prepare, on_rows: Callable[[int], None]) -> pa.Table:
    """A `Runner` without Ray, for tests and small logs."""
    found = [CANDIDATE_SCHEMA.empty_table()]
    for path in paths:
        for rows in _read_batches(path):
            found.append(prepare(rows))
            on_rows(rows.num_rows)
    return pa.concat_tables(found)


def prepare_with_ray_data(
    paths: Sequence[Path],
    prepare: Prepare,
    on_rows: Callable[[int], None],
    *,
    workers: int,
    address: str = "local",
) -> pa.Table:
    """A `Runner` on Ray Data: reads and prepares in ``workers`` tasks at once.

    Args:
        address: Of a Ray cluster that sees the same files; ``local`` starts one for this call. Not ``auto``: behind a
            serving cluster that has given all its CPUs away, the tasks would wait for ever.

    Raises:
        ConfigurationError: Ray Data cannot be imported.
        RheostatError: What ``prepare`` raised.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigurationError(
            f"Ray Data cannot be imported ({error}); it needs pandas. Install the training requirements, or curate in "
            "this process: --workers 0."
        ) from error
    # Ray 2.60 reads without page checksums: its datasource_v2 takes ``fragment_scan_options`` and uses its own. So the
    # pages are checked here, before; that the file is still the same afterwards, `curate` checks.
    for path in paths:
        for _ in _read_batches(path):
            pass
    own = not ray.is_initialized()
    if own:
        is_local = address == "local"
        ray.init(
            address=address,
            num_cpus=workers if is_local else None,
            include_dashboard=False if is_local else None,
            log_to_driver=False,
        )
    context = ray.data.DataContext.get_current()
    shown, context.enable_progress_bars = context.enable_progress_bars, False
    # Else what `prepare` refuses comes back as a text inside an error of Ray Data's.
    original, context.raise_original_map_exception = context.raise_original_map_exception, True
    try:
        rows = ray.data.read_parquet(
            [str(path.resolve()) for path in paths],
            schema=EXPORT_SCHEMA,
            file_extensions=["parquet"],
            # None: a folder such as tenant=acme in the path is no column.
            partitioning=None,
            concurrency=workers,
        )
        prepared = rows.map_batches(
            partial(_prepare_block, prepare=prepare),
            batch_size=BATCH_ROWS,
            batch_format="pyarrow",
            compute=ray.data.TaskPoolStrategy(size=workers),
        )
        found = [CANDIDATE_SCHEMA.empty_table()]
        for batch in prepared.iter_batches(batch_size=None, batch_format="pyarrow"):
            assert isinstance(batch, pa.Table), "as batch_format says"
            # Ray's blocks forget which columns cannot be null.
            found.append(batch.cast(CANDIDATE_SCHEMA))
            # Of one row several candidates may come; all of them are in one batch.
            on_rows(len(set(batch.column("event_id").to_pylist())))
        return pa.concat_tables(found)
    except ray.exceptions.RayError as error:
        raise _as_ours(error) from error
    finally:
        context.enable_progress_bars = shown
        context.raise_original_map_exception = original
        if own:
            ray.shutdown()


def curate(
    root: Path,
    parameters: CurationParameters,
    *,
    log: LogSource | None = None,
    exports: Sequence[Path] = (),
    runner: Runner = prepare_in_process,
    required: Collection[Method] = (),
    files: FileLayer | None = None,
    on_step: OnStep = lambda step, done, total: None,
    on_problem: Callable[[str], None] = lambda problem: None,
) -> Dataset:
    """Make the dataset of these rows, or find it there already; durable on return. Blocks.

    Equal exports, parameters and code give the same name and equal bytes.

    Args:
        root: Where the datasets are; made if missing.
        log: Read for its signals where there are no ``exports``, and in any case for its tombstones: what was erased
            since the export is left out.
        exports: Files of ``python -m deployments.feedback.analysis export``, of periods that do not overlap.
        required: Methods that must be usable; none: any one will do.
        files: Where the dataset is written; None: the real file system.
        on_problem: Told of damage that the log was found with.

    Raises:
        InvalidRequest: There is not the feedback that it takes. ``code``: no_feedback, one_class, too_few_raters,
            empty_split or repeated_event; or an export is none, or damaged.
        NotFound: There is no log, or no such export.
        Unavailable: Another curation writes into ``root``.
        OSError: The disk is full, or fails.
    """
    if log is not None and log.root.resolve() == root.resolve():
        # Both have a folder of lineage, of adapters there and of datasets here.
        raise InvalidRequest(f"{root} is the log; name another folder for the datasets.", param="out")
    with locked(root, files) as scratch:
        if not exports:
            on_step("exporting the log", 0, 0)
            exports = [_export(log, scratch, on_problem)]
        inputs = [_describe_input(path) for path in exports]
        total = sum(each["rows"] for each in inputs)
        if not total:
            raise _no_signals(log)
        done = [0]

        def count(rows: int) -> None:
            done[0] = min(total, done[0] + rows)
            on_step("judging rows", done[0], total)

        count(0)
        candidates = runner(exports, partial(to_candidates, parameters=parameters), count)
        if inputs != [_describe_input(path) for path in exports]:
            raise InvalidRequest("An export was changed while it was read; curate again.", param="rows")
        erased = _read_erased(log) if log is not None else frozenset()
        selection = select(candidates, parameters, erased, lambda step: on_step(step, 0, 0))
        _check_usable(selection, required)
        on_step("writing", 0, 0)
        manifest = {
            "format": MANIFEST_FORMAT,
            # pyarrow too: it writes the bytes, and its version into them.
            "code": {"curation": CURATION_VERSION, "pyarrow": pa.__version__},
            "parameters": parameters.as_json(),
            "inputs": sorted(inputs, key=lambda each: each["sha256"]),
            "row_ids_sha256": selection.row_ids_sha256,
            **selection.report,
        }
        tables = {
            file_name(method, split): table
            for method, chosen in selection.methods.items()
            for split, table in chosen.tables.items()
        }
        return write_dataset(root, tables, manifest, selection.event_ids, files)


def _prepare_block(block: pa.Table, prepare: Prepare) -> pa.Table:
    return prepare(block.select(EXPORT_SCHEMA.names).cast(EXPORT_SCHEMA))


def _export(log: LogSource | None, scratch: Path, on_problem: Callable[[str], None]) -> Path:
    if log is None:
        raise InvalidRequest("There is nothing to curate: name a log (--log DIR) or its exports (--rows FILE).")
    if not log.root.is_dir():
        raise NotFound(
            f"There is no log at {log.root}. Serve an answer first, or name the log's folder: --log data/log.",
            param="log",
        )
    for attempt in range(_ATTEMPTS):
        snapshot = open_snapshot(log.root)
        try:
            with open_views(snapshot, log.contracts or BUILT_IN) as con:
                path = write_training_rows(con, scratch, log.scope).path
        except duckdb.Error:
            if attempt + 1 == _ATTEMPTS or all(path.exists() for path in snapshot.parquet):
                raise
        else:
            for problem in snapshot.problems:
                on_problem(problem)
            return path
    raise AssertionError("the last attempt returns or raises")


def _describe_input(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        with _open_export(path) as parquet:
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
    except FileNotFoundError:
        raise NotFound(f"There is no export {path}.", param="rows") from None
    if not schema.equals(EXPORT_SCHEMA):
        other = next((field for field in EXPORT_SCHEMA if field not in list(schema)), None)
        raise InvalidRequest(
            f"{path} is no export of this version: its columns differ"
            f"{f', first at {other.name!r}' if other is not None else ''}. Write it anew with "
            "python -m deployments.feedback.analysis export --out DIR.",
            param="rows",
        )
    return {"sha256": sha256, "size_bytes": path.stat().st_size, "rows": rows}


def _read_batches(path: Path) -> Iterator[pa.Table]:
    with _open_export(path) as parquet:
        for batch in parquet.iter_batches(BATCH_ROWS):
            yield pa.Table.from_batches([batch])


@contextmanager
def _open_export(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as parquet:
            yield parquet
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        # Arrow raises UnicodeDecodeError too, for damaged names.
        raise InvalidRequest(
            f"{path} is no Parquet file, or damaged ({error}). Export the rows anew.", "rows"
        ) from error


def _read_erased(log: LogSource) -> frozenset[str]:
    """All that tombstones name by now."""
    for attempt in range(_ATTEMPTS):
        try:
            return _erased_in(open_snapshot(log.root))
        except FileNotFoundError:
            if attempt + 1 == _ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


def _erased_in(snapshot: Snapshot) -> frozenset[str]:
    erasures = Erasures()
    erasures.add(snapshot.tail)
    for path in snapshot.parquet:
        erasures.add(read_parquet(path, TOMBSTONE_COLUMNS))
    return frozenset(erasures.events | erasures.generations)


def _no_signals(log: LogSource | None) -> InvalidRequest:
    where = "the exports" if log is None else str(log.root)
    if log is not None and log.scope is not None and not log.scope.is_whole:
        where += ", in this period or of this tenant,"
    return InvalidRequest(
        f"There is no feedback in {where} that speaks of an answer. Send thumbs, corrections or preferences to "
        "POST /v1/feedback, and look at python -m deployments.feedback.analysis report.",
        param="log",
        code="no_feedback",
    )


def _check_usable(selection: Selection, required: Collection[Method]) -> None:
    faults = {method: chosen.fault for method, chosen in selection.methods.items() if chosen.fault is not None}
    missing = [method for method in METHODS if method in required and method in faults]
    if not missing and len(faults) == len(METHODS):
        missing = list(METHODS)
    if missing:
        told = [fault for method in missing if (fault := faults[method])]
        # What there is too little of says more than what there is none of.
        code = next((fault.code for fault in told if fault.code != "no_feedback"), "no_feedback")
        raise InvalidRequest(
            "No dataset can be made of this feedback.\n" + "\n".join(f"  {fault.message}" for fault in told),
            param="log",
            code=code,
        )


def _as_ours(error: BaseException) -> RheostatError:
    """Our error inside one of Ray's, which tells where it was raised; or that Ray failed."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, RheostatError):
            return seen
        cause = getattr(seen, "cause", None)
        seen = cause if isinstance(cause, BaseException) and cause is not seen else seen.__cause__
    return InternalError(f"Ray Data failed: {error}. Curate again, or in this process: --workers 0.")
