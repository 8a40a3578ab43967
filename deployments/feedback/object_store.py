"""Whole objects in any store that pyarrow knows by URI: S3, GCS, Azure, HDFS, a folder.

An object appears whole or not at all, as far as the store allows: leaving ``with open_output_stream`` on an exception
commits the part that was written (https://github.com/apache/arrow/issues/40502), so bytes are complete in memory first,
and where names can be moved they get theirs at the end. It knows nothing of the log; shipping calls it.
"""

from urllib.parse import urlsplit

import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import fs

from graph.errors import ConfigurationError

_WITHOUT_MOVE = frozenset({"s3", "gcs", "abfs"})
"""A put is atomic there, a move is not, and there are no folders to make."""
_PART = ".part"


class ObjectStore:
    """Objects by key, below one prefix. Every method blocks and raises OSError if the store fails.

    Args:
        filesystem: Of pyarrow.
        prefix: Path within it.
        shown: How to name the place in messages.
    """

    def __init__(self, filesystem: fs.FileSystem, prefix: str, shown: str) -> None:
        self._filesystem = filesystem
        self._prefix = prefix.rstrip("/")
        self.shown = shown

    @classmethod
    def from_uri(cls, uri: str) -> "ObjectStore":
        """Return the store at e.g. ``s3://bucket/prefix?region=eu-west-1`` or ``file:///folder``.

        Raises:
            ConfigurationError: pyarrow knows no such store.
        """
        shown = _without_secrets(uri)
        try:
            filesystem, prefix = fs.FileSystem.from_uri(uri)
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = str(error).replace(uri, shown)
            raise ConfigurationError(
                f"The store {shown} cannot be opened: {reason}. Give a URI such as s3://bucket/prefix or file:///folder."
            ) from error
        return cls(filesystem, prefix, shown)

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of every object, by key."""
        selector = fs.FileSelector(self._prefix, allow_not_found=True, recursive=True)
        start = len(self._prefix) + 1
        found = self._filesystem.get_file_info(selector)
        return {info.path[start:]: info.size for info in found if info.type == fs.FileType.File}

    def get(self, key: str) -> bytes:
        """Return the object's bytes; FileNotFoundError if there is none."""
        with self._filesystem.open_input_stream(self._path(key)) as stream:
            data: bytes = stream.read()
        return data

    def put(self, key: str, data: bytes) -> None:
        """Make the object hold these bytes."""
        path = self._path(key)
        if self._filesystem.type_name in _WITHOUT_MOVE:
            self._write(path, data)
        else:
            self._filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            self._write(path + _PART, data)
            self._filesystem.move(path + _PART, path)
        size = self._filesystem.get_file_info(path).size
        if size != len(data):
            raise OSError(f"the object {key} has {size} bytes where {len(data)} were written")

    def delete(self, key: str) -> None:
        """Remove the object."""
        self._filesystem.delete_file(self._path(key))

    def _path(self, key: str) -> str:
        return f"{self._prefix}/{key}"

    def _write(self, path: str, data: bytes) -> None:
        stream = self._filesystem.open_output_stream(path)
        stream.write(data)
        # Not closed if that raises: closing would commit a part.
        stream.close()


def _without_secrets(uri: str) -> str:
    """A URI may carry keys before its host and in its query."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
