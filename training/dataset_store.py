"""Datasets on disk: immutable folders whose name is the hash of all that is in them.

    ROOT/<hash>/manifest.json                     what went in, what came out, what was left out and why
    ROOT/<hash>/{kto,sft,dpo}-{train,eval,vault}.parquet
    ROOT/lineage/<hash>.parquet                   the rows of the log behind it; see `deployments.feedback.lineage`
    ROOT/datasets.lock                            one curation at a time

The hash is the sha256 of manifest.json, which holds the sha256 of each file: whoever has the name can check every byte,
and equal rows, parameters and code give equal names. So the manifest has no time, no path and no host in it.

A folder is written under another name, synced, and renamed: a kill at any point leaves the whole dataset or none. Its
lineage comes first, so that no dataset is there that an erasure could not find; what a kill left besides is swept by
the next curation. It does not know how rows were chosen. Curation writes; the trainer and the gate read.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from deployments.feedback.files import FileLayer, LocalFiles, ensure_directory, try_lock, write_all
from deployments.feedback.lineage import adapters_trained_on, record_lineage
from deployments.feedback.parquet_files import damaged, read_parquet
from graph.errors import InternalError, InvalidRequest, NotFound, Unavailable
from training.curation import SPLITS, Method, Split

MANIFEST = "manifest.json"
LOCK = "datasets.lock"
GROUP_ROWS = 8192
_UNFINISHED = ".unfinished-"
_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset; its manifest was checked against its name."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The sha256 of the manifest, 64 hex digits."""
        return self.folder.name

    def read(self, method: Method, split: Split) -> pa.Table:
        """Return the rows (`selection.ROW_SCHEMAS`) in the order that they are to be trained in.

        Raises:
            InvalidRequest: The method is not usable in this dataset; the message says why.
            InternalError: The file is not as it was written.
        """
        report = self.manifest["methods"][method]
        if not report["usable"]:
            raise InvalidRequest(
                f"The dataset {self.name} cannot be used for {method}. {report['reason']}", param="method"
            )
        file = file_name(method, split)
        path = self.folder / file
        _check(path, self.manifest["files"][file])
        return read_parquet(path)

    def event_ids(self, method: Method, splits: Iterable[Split] = SPLITS) -> set[str]:
        """Return the ids of the log's rows behind these splits: what `record_lineage` wants of an adapter."""
        tables = [self.read(method, split).column("event_ids") for split in splits]
        return {event_id for column in tables for ids in column.to_pylist() for event_id in ids}


def file_name(method: Method, split: Split) -> str:
    """Return the name of the file with these rows."""
    return f"{method}-{split}.parquet"


@contextmanager
def locked(root: Path, files: FileLayer | None = None) -> Iterator[Path]:
    """Hold the datasets for one curation; yield a scratch folder that goes with it. Sweeps what a killed one left.

    Raises:
        Unavailable: Another process curates into this folder.
        OSError: The folder cannot be written.
    """
    ensure_directory(root, files or LocalFiles())
    lock = try_lock(root / LOCK)
    if lock is None:
        raise Unavailable(f"Another curation writes to {root}; wait for it, or name another folder: --out DIR.")
    try:
        for left in root.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left)
        scratch = root / f"{_UNFINISHED}scratch"
        scratch.mkdir(mode=0o750)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    finally:
        lock.close()


def write_dataset(
    root: Path,
    tables: Mapping[str, pa.Table],
    manifest: Mapping[str, Any],
    event_ids: Iterable[str],
    files: FileLayer | None = None,
) -> Dataset:
    """Write the dataset, durable on return; one that is there already is checked and left. Call it inside `locked`.

    Holds all files in memory once.

    Args:
        tables: By file name.
        manifest: JSON values; ``files`` is added.
        event_ids: Of all rows of the log that went into it.

    Raises:
        InternalError: The dataset is there, and damaged.
        OSError: The disk is full, or fails; nothing of the dataset is there then.
    """
    files = files or LocalFiles()
    contents = {name: _encode(table) for name, table in sorted(tables.items())}
    told = {name: _facts(data) | {"rows": tables[name].num_rows} for name, data in contents.items()}
    text = encode_manifest({**manifest, "files": told})
    name = hashlib.sha256(text).hexdigest()
    record_lineage(root, name, name, event_ids, files)
    if (root / name).exists():
        dataset = open_dataset(root, name)
        for file, facts in told.items():
            _check(dataset.folder / file, facts)
        return dataset
    unfinished = root / f"{_UNFINISHED}{name}"
    files.mkdir(unfinished)
    for file, data in {**contents, MANIFEST: memoryview(text)}.items():
        _write(unfinished / file, data, files)
    files.fsync_dir(unfinished)
    files.rename(unfinished, root / name)
    files.fsync_dir(root)
    return Dataset(root / name, json.loads(text))


def open_dataset(root: Path, name: str) -> Dataset:
    """Return the dataset of this name; its files are checked as they are read.

    Raises:
        InvalidRequest: The name is none.
        NotFound: There is no such dataset.
        InternalError: Its manifest is not what the name says.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"{name!r} is no dataset; a dataset's name has 64 digits 0-9 a-f.", param="dataset")
    try:
        text = (root / name / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise NotFound(
            f"There is no dataset {name} in {root}. Make one: python -m training curate --out {root}", param="dataset"
        ) from None
    if hashlib.sha256(text).hexdigest() != name:
        raise InternalError(
            f"The dataset {root / name} is damaged: its manifest is not the one that its name is the hash of. Remove "
            "the folder and curate again from the same rows."
        )
    return Dataset(root / name, json.loads(text))


def list_datasets(root: Path) -> list[str]:
    """Return the names of all datasets, sorted; ``root`` need not exist."""
    return sorted(path.parent.name for path in root.glob(f"*/{MANIFEST}") if _NAME.fullmatch(path.parent.name))


def datasets_with(root: Path, ids: Collection[str]) -> list[str]:
    """Return the names of the datasets that any of these rows of the log went into, sorted.

    Args:
        ids: event_ids and generation_ids, such as those that a tombstone names.

    Raises:
        InternalError: A lineage file is damaged; the list would not be complete.
    """
    there = set(list_datasets(root))
    return [name for name in adapters_trained_on(root, ids) if name in there]


def encode_manifest(manifest: Mapping[str, Any]) -> bytes:
    """Return the one spelling of a manifest that its hash is made from."""
    return (json.dumps(manifest, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode()


def _encode(table: pa.Table) -> memoryview:
    """The table as one Parquet file in memory, in groups of a fixed size, so that equal rows give equal bytes."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression="zstd", write_page_checksum=True) as writer:
        for start in range(0, table.num_rows, GROUP_ROWS):
            # A chunk's end would end a page too.
            writer.write_table(table.slice(start, GROUP_ROWS).combine_chunks(), row_group_size=GROUP_ROWS)
    return memoryview(sink.getvalue()).cast("B")


def _facts(data: memoryview) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}


def _write(path: Path, data: memoryview, files: FileLayer) -> None:
    fd = files.create(path, exclusive=True)
    try:
        write_all(files, fd, data)
        files.fdatasync(fd)
    finally:
        files.close(fd)


def _check(path: Path, facts: Mapping[str, Any]) -> None:
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise damaged(path, "it is gone") from None
    if sha256 != facts["sha256"]:
        raise damaged(path, f"its sha256 is {sha256[:12]}..., the manifest says {facts['sha256'][:12]}...")
