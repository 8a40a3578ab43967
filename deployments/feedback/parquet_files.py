"""Parquet files as the log writes them: checked where they are read, searched by id without reading their texts.

It knows of columns and row groups, not of the archive's manifest. The archive and the lineage use it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from graph.errors import InternalError

ROW_GROUP_ROWS = 65_536
ROW_GROUP_BYTES = 16 * 2**20
"""A look-up decodes one row group, so long texts make for groups of fewer rows."""


def encode_parquet(rows: pa.Table) -> memoryview:
    """Return the table as one Parquet file in memory: zstd, checksums of pages, statistics of row groups."""
    row_bytes = max(1, rows.nbytes // max(1, rows.num_rows))
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows,
        sink,
        row_group_size=max(1, min(ROW_GROUP_ROWS, ROW_GROUP_BYTES // row_bytes)),
        compression="zstd",
        write_statistics=True,
        write_page_checksum=True,
        sorting_columns=[pq.SortingColumn(rows.schema.get_field_index("event_id"))],
    )
    return memoryview(sink.getvalue()).cast("B")


@contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file of ours; each page is checked as it is read.

    Raises:
        FileNotFoundError: It is gone.
        InternalError: It is damaged: also for what Arrow raises while it is read inside.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as parquet:
            yield parquet
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(path, str(error)) from error


def read_parquet(
    path: Path, columns: Sequence[str] | None = None, lowest: str | None = None, highest: str | None = None
) -> pa.Table:
    """Return these columns (None: all) of the row groups that may hold event_ids from ``lowest`` to ``highest``.

    Raises:
        FileNotFoundError: The file is gone.
        InternalError: The file is damaged.
    """
    with open_parquet(path) as parquet:
        groups = list(range(parquet.num_row_groups))
        if lowest is not None and highest is not None:
            groups = [group for group in groups if _may_hold(parquet.metadata, group, "event_id", lowest, highest)]
        return parquet.read_row_groups(groups, columns=None if columns is None else list(columns))


def find_in_parquet(path: Path, columns: Sequence[str], id: str) -> Iterator[pa.Table]:
    """Yield the rows that have this id in one of these columns; whole row groups are decoded only where it is.

    Raises:
        FileNotFoundError: The file is gone.
        InternalError: The file is damaged.
    """
    with open_parquet(path) as parquet:
        for group in range(parquet.num_row_groups):
            if not any(_may_hold(parquet.metadata, group, column, id, id) for column in columns):
                continue
            ids = parquet.read_row_group(group, columns=list(columns))
            found = [pc.fill_null(pc.equal(ids.column(column), id), False) for column in columns]
            mask = reduce(pc.or_, found)
            if pc.any(mask).as_py():
                yield parquet.read_row_group(group).filter(mask)


def uncompressed_bytes(path: Path) -> int:
    """Return the size of the file's rows before compression, by its footer.

    Raises:
        InternalError: The file is damaged.
    """
    with open_parquet(path) as parquet:
        metadata = parquet.metadata
        return sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))


def damaged(path: Path, reason: str) -> InternalError:
    """Return the error for a Parquet file of ours that cannot be trusted."""
    return InternalError(
        f"The Parquet file {path} is damaged ({reason}). Restore it from a copy "
        "(python -m deployments.feedback.shipping restore)."
    )


def _may_hold(metadata: pq.FileMetaData, group: int, column: str, lowest: str, highest: str) -> bool:
    """Whether a row group may have a value of this range in this column."""
    statistics = metadata.row_group(group).column(metadata.schema.names.index(column)).statistics
    # Arrow writes none for values of several kB, nor where all are null.
    if statistics is None or not statistics.has_min_max:
        return True
    return bool(statistics.min <= highest and lowest <= statistics.max)
