"""Makes logs of known rows without a writer: segments that were sealed, or that a dead writer left."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.durability.recording import QuickFiles
from benchmarks.durability.rows import event_row
from deployments.feedback.directory import claim_epoch
from deployments.feedback.schema import to_batch
from deployments.feedback.segment_writer import SegmentWriter


def write_segment(root: Path, writer_id: str, batches: Sequence[Sequence[str]], *, sealed: bool) -> None:
    """Write one segment in an epoch of its own.

    Args:
        root: Of the log.
        writer_id: Of the writer, which has ended afterwards.
        batches: Event_ids of each batch.
        sealed: False: as a crash leaves it.
    """
    files = QuickFiles()
    claim = claim_epoch(root, writer_id, files)
    writer = SegmentWriter(root, claim.writer_id, claim.epoch, files)
    for batch in batches:
        writer.append(to_batch([event_row(event_id) for event_id in batch]))
    if sealed:
        writer.seal()
    writer.close()
    claim.close()
