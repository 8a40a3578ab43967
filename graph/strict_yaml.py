"""YAML read into plain data, with the line of every key, and nothing lenient about it.

PyYAML alone keeps the last of two equal keys and reads ``on``, ``off``, ``yes`` and ``no`` as booleans (YAML
1.1): a catalogue has switches called on and off and a language called no. Here those are words, as in YAML 1.2
(https://yaml.org/spec/1.2.2/#103-core-schema), a key given twice is an error, and so is an alias, which no
file of ours needs.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from graph.errors import ConfigurationError

KeyPath = tuple[str | int, ...]


class _WordLoader(yaml.SafeLoader):
    """SafeLoader whose only booleans are true and false."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own class attribute, replaced rather than shared
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_WordLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


@dataclass(frozen=True, slots=True)
class YamlFile:
    """One file's content. ``lines`` maps each key path to its line, counted from 1."""

    path: Path
    data: Any
    lines: dict[KeyPath, int]

    def place(self, key_path: KeyPath) -> str:
        """``file:line`` of a key path, or of the nearest of its parents that has a line."""
        for length in range(len(key_path), 0, -1):
            if key_path[:length] in self.lines:
                return f"{self.path}:{self.lines[key_path[:length]]}"
        return str(self.path)


def read_yaml(path: Path) -> YamlFile:
    """Read one UTF-8 YAML document. Blocks on the disk.

    Raises:
        ConfigurationError: The file cannot be read, is not YAML, repeats a key or holds an alias; the message
            names the file and the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    loader = _WordLoader(text)
    try:
        node = loader.get_single_node()
        lines: dict[KeyPath, int] = {}
        data = None if node is None else _Walk(path, loader, lines).plain(node, ())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        reason = getattr(error, "problem", None) or str(error)
        raise ConfigurationError(f"{place}: is not valid YAML: {reason}") from error
    finally:
        loader.dispose()
    return YamlFile(path, data, lines)


class _Walk:
    def __init__(self, path: Path, loader: _WordLoader, lines: dict[KeyPath, int]) -> None:
        self.path, self.loader, self.lines = path, loader, lines
        self.seen: set[int] = set()

    def plain(self, node: yaml.Node, at: KeyPath) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self.loader.construct_object(node)
        line = node.start_mark.line + 1
        if id(node) in self.seen:
            raise ConfigurationError(f"{self.path}:{line}: {_dotted(at)}: is an alias (*name); write it out instead.")
        self.seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                self.lines[(*at, index)] = item.start_mark.line + 1
                items.append(self.plain(item, (*at, index)))
            return items
        assert isinstance(node, yaml.MappingNode)
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.plain(key_node, at) if isinstance(key_node, yaml.ScalarNode) else None
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ConfigurationError(
                    f"{self.path}:{line}: {_dotted(at)}: got a key that is not text; put it in quotes."
                )
            if key in mapping:
                first = self.lines[(*at, key)]
                raise ConfigurationError(
                    f"{self.path}:{line}: {_dotted((*at, key))}: was already given on line {first}; keep one."
                )
            self.lines[(*at, key)] = line
            mapping[key] = self.plain(value_node, (*at, key))
        return mapping


def _dotted(at: KeyPath) -> str:
    return ".".join(map(str, at)) or "the file"
