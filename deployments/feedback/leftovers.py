"""Removes what a compaction leaves behind: absorbed segments, replaced Parquet files, originals in quarantine.

Every removal comes after a durable manifest that does not need the file. Compaction calls it, under its lock.
"""

from collections.abc import Sequence
from pathlib import Path

from deployments.feedback.archive import ArchiveManifest, unreferenced_files, write_archive_manifest
from deployments.feedback.directory import QUARANTINE, list_quarantined, originals_of, recovered_copy
from deployments.feedback.files import FileLayer
from deployments.feedback.segment_format import manifest_path
from deployments.feedback.segment_reader import read_segment


class Leftovers:
    """Of one log. Every method blocks and raises OSError; what it removed is durably gone when it returns."""

    def __init__(self, root: Path, files: FileLayer) -> None:
        self._root = root
        self._files = files

    def sweep(self, manifest: ArchiveManifest) -> None:
        """Remove what a crash of an earlier run left, and the merged files that it kept for readers."""
        absorbed = [path for name in manifest.segments if _remains(path := self._root / name)]
        if absorbed or unreferenced_files(self._root, manifest):
            # A crash may have come between its rename and the sync after it: then a power cut would bring the old
            # manifest back, which needs what is removed here.
            write_archive_manifest(self._root, manifest, self._files)
            self.remove_segments(absorbed)
            self.remove_unreferenced(manifest)

    def sweep_quarantine(self, manifest: ArchiveManifest) -> list[str]:
        """Remove originals whose rows are all in the archive, for erasure must reach them; tell of the others."""
        done, problems = [], []
        for original in list_quarantined(self._root):
            copy = recovered_copy(self._root, original)
            readout = read_segment(original)
            if copy is None or readout.corrupt:
                problems.append(
                    f"{original.name} in {QUARANTINE}/ is damaged ({readout.problem}): no erasure reaches it. Save "
                    "what can be saved of it, then remove it."
                )
            elif not readout.rows or copy in manifest.segments:
                done.append(original)
        self.remove(done)
        return problems

    def lingers(self, name: str) -> bool:
        """Whether anything is still there that could be taken for a live segment of this absorbed name."""
        path = self._root / name
        return _remains(path) or any(original.exists() for original in originals_of(self._root, path))

    def remove_segments(self, segments: Sequence[Path]) -> None:
        """Remove absorbed segments and their manifests."""
        # First the rows: a segment without its manifest would look like one that a crash left.
        self.remove([path for path in segments if path.exists()])
        self.remove([manifest for path in segments if (manifest := manifest_path(path)).exists()])

    def remove_unreferenced(self, *manifests: ArchiveManifest) -> None:
        """Remove the files of the archive that none of these manifests names."""
        self.remove(unreferenced_files(self._root, *manifests))

    def remove(self, paths: Sequence[Path]) -> None:
        """Remove these files."""
        for path in paths:
            self._files.unlink(path)
        for directory in sorted({path.parent for path in paths}):
            self._files.fsync_dir(directory)


def _remains(segment: Path) -> bool:
    return segment.exists() or manifest_path(segment).exists()
