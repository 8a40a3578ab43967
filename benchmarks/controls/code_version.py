"""Which code makes the answers: a hash that tells answers of different code apart."""

import ast
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import yaml

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_version(root: Path, patterns: Iterable[str], leave_out: Iterable[str] = ()) -> str:
    """16 hex digits over the files below ``root`` that make an answer; comments and docstrings don't count.

    Read from this checkout: a service that was started before the last change answers under a newer code's name, so
    restart it after a change.
    """
    left_out = set(leave_out)
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
        name = path.relative_to(root).as_posix()
        if name not in left_out:
            digest.update(f"{name}\0{_meaning(path)}\0".encode())
    return digest.hexdigest()[:16]


def _meaning(path: Path) -> str:
    text = path.read_text()
    if path.suffix == ".yaml":
        return json.dumps(yaml.safe_load(text))
    if path.suffix != ".py":
        return text
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED):
            # Strings that stand alone: docstrings, and those below attributes.
            node.body = [each for each in node.body if not _is_text(each)] or [ast.Pass()]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
