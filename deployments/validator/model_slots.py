"""The classifiers that an operator mounts into a model slot: a local folder with a pinned hash, loaded and asked.

Beside the relevance model the only module of the pool that loads one, and the only one that loads what did not come
with a package. So nothing is loaded before the hash over the whole folder was right, only safetensors are read, never
a pickle, no code of the folder is run and nothing is asked of a network. ``python -m deployments.validator.model_slots
hash FOLDER`` prints the hash.
"""

import hashlib
import json
import logging
import math
import os
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from deployments.validator.checks.model_score import SlotKind
from deployments.validator.policy import HASH_COMMAND, ModelSlot
from graph.errors import ConfigurationError
from graph.settings import project_path

__all__ = ["NOT_LOADED", "Asked", "SlotModel", "hash_folder", "load_slot", "load_slots", "score_all", "verify_folder"]

logger = logging.getLogger(__name__)
NOT_LOADED = "its model is not loaded"
"""Why the check of a slot fails whose model could not be loaded; the log says more."""
MAX_CHARS = 100_000
"""Of a text or its premise; no answer has more, and to tokenise a megabyte takes seconds."""
MAX_WINDOWS = 32
"""Of one text. A longer one is not judged by its beginning alone: its check fails."""
TOKENS_AT_ONCE = 2048
"""In one forward pass, and at least one window: 2 s for a model of 100M parameters on one core."""
OVERLAP_SHARE = 8
"""Windows share this fraction of ``max_tokens``, so that what stands at a border is whole in one of them."""
_CHUNK_BYTES = 1 << 20


class SlotModel:
    """A loaded classifier; not thread-safe.

    Args:
        folder: Verified.
        label: One of the model's labels.
        worst: Which of the windows' scores counts: ``max`` for what should not be there, ``min`` for what should.

    Raises:
        Exception: Whatever transformers raises, or ValueError: the folder holds no whole classifier, or one that
            does not run with ``max_tokens``.
    """

    def __init__(
        self, folder: Path, kind: SlotKind, label: str, max_tokens: int, worst: Callable[[Sequence[float]], float]
    ) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        torch.set_num_threads(1)
        quieten: Any = transformers_logging.disable_progress_bar  # untyped
        quieten()
        load_tokenizer: Any = AutoTokenizer.from_pretrained
        load_model: Any = AutoModelForSequenceClassification.from_pretrained
        local = {"local_files_only": True, "trust_remote_code": False}
        self._tokenizer = load_tokenizer(str(folder), **local)
        if not self._tokenizer.is_fast:
            raise ValueError("the tokenizer has no tokenizer.json, which cutting into windows needs")
        model, told = load_model(
            str(folder), use_safetensors=True, dtype=torch.float32, output_loading_info=True, **local
        )
        if told["missing_keys"]:
            # transformers would give them random values: a base model without the head of a classifier.
            raise ValueError(f"its files lack the weights {', '.join(sorted(told['missing_keys'])[:4])}")
        self._model = model.eval()
        self._index = {name: index for index, name in model.config.id2label.items()}[label]
        # One class, or classes that do not exclude each other: each has a probability of its own.
        self._is_independent = (
            len(model.config.id2label) == 1 or model.config.problem_type == "multi_label_classification"
        )
        self._kind = kind
        self._max_tokens = max_tokens
        self._worst = worst
        # What a long text would raise later, start-up raises now.
        (probe,) = self.scores([("why", "word " * (max_tokens * 5 // 4))], lambda: None)
        if isinstance(probe, Exception):
            raise probe

    def scores(self, pairs: Sequence[tuple[str, str]], beat: Callable[[], None]) -> list[float | Exception]:
        """For each (premise, answer) the probability of the label, 0..1, or why there is none.

        Args:
            pairs: What the caller sent, which a slot of kind text does not read, and the answer.
            beat: Called before each forward pass.

        Raises:
            Exception: Of the model itself; then no text has a score.
        """
        windows: list[Mapping[str, list[int]]] = []
        owners: list[int] = []
        failed: dict[int, Exception] = {}
        for owner, (premise, text) in enumerate(pairs):
            try:
                cut = self._cut(_clean(premise), _clean(text))
            except Exception as error:  # noqa: BLE001 - one text must not cost the others their score
                failed[owner] = error
                continue
            windows += cut
            owners += [owner] * len(cut)
        found: dict[int, list[float]] = {}
        # Of about one length in a pass, so that little is padding.
        order = sorted(range(len(windows)), key=lambda at: len(windows[at]["input_ids"]))
        at_once = max(1, TOKENS_AT_ONCE // self._max_tokens)
        for start in range(0, len(order), at_once):
            chosen = order[start : start + at_once]
            beat()
            for at, share in zip(chosen, self._forward([windows[at] for at in chosen]), strict=True):
                found.setdefault(owners[at], []).append(share)
        return [failed[owner] if owner in failed else self._worst(found[owner]) for owner in range(len(pairs))]

    def _cut(self, premise: str, text: str) -> list[Mapping[str, list[int]]]:
        """The token ids of each window."""
        if max(len(premise) if self._kind == "pair" else 0, len(text)) > MAX_CHARS:
            raise ValueError(f"a text of more than {MAX_CHARS} characters")
        texts = ([text],) if self._kind == "text" else ([self._shorten(premise, text)], [text])
        encoded = self._tokenizer(
            *texts,
            truncation="only_first" if self._kind == "text" else "only_second",
            max_length=self._max_tokens,
            stride=self._max_tokens // OVERLAP_SHARE,
            return_overflowing_tokens=True,
        )
        count = len(encoded["input_ids"])
        if count > MAX_WINDOWS:
            raise ValueError(f"a text of more than {MAX_WINDOWS} windows")
        inputs = [name for name in self._tokenizer.model_input_names if name in encoded]
        return [{name: encoded[name][at] for name in inputs} for at in range(count)]

    def _shorten(self, premise: str, text: str) -> str:
        """As much of the premise as leaves room for the answer, of a long answer for windows of half the room."""
        room = self._max_tokens - self._tokenizer.num_special_tokens_to_add(pair=True)
        answer_size = len(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        # A quarter at the least: a window must be longer than what it shares with the next one.
        keep = room - max(min(answer_size, room // 2), room // 4)
        encoded = self._tokenizer(premise, add_special_tokens=False, verbose=False, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        return premise if len(offsets) <= keep else premise[: offsets[keep - 1][1]]

    def _forward(self, windows: Sequence[Mapping[str, list[int]]]) -> list[float]:
        import torch

        inputs = self._tokenizer.pad(
            {name: [window[name] for window in windows] for name in windows[0]}, return_tensors="pt"
        )
        with torch.inference_mode():
            logits_BL = self._model(**inputs).logits
        shares_BL = logits_BL.sigmoid() if self._is_independent else logits_BL.softmax(dim=-1)
        shares = [float(share) for share in shares_BL[:, self._index]]
        if not all(map(math.isfinite, shares)):
            # No bound is ever broken by a NaN.
            raise ValueError("the model gave a score that is no number")
        return shares


Asked: TypeAlias = tuple[SlotModel, str, str]
"""A model, what the caller sent, and the answer."""


def score_all(asked: Sequence[Asked], beat: Callable[[], None]) -> list[float | Exception]:
    """For each of ``asked`` its score, or why there is none. Blocks; texts for the same model share its passes.

    Args:
        beat: Called before each forward pass.
    """
    scores: dict[int, float | Exception] = {}
    for model in dict.fromkeys(model for model, _, _ in asked):
        mine = [at for at, (its, _, _) in enumerate(asked) if its is model]
        try:
            found = model.scores([asked[at][1:] for at in mine], beat)
        except Exception as error:
            logger.exception("a model slot failed")
            found = [error] * len(mine)
        scores |= zip(mine, found, strict=True)
    return [scores[at] for at in range(len(asked))]


def load_slots(
    slots: Mapping[str, ModelSlot], where: str, loaded: Mapping[str, tuple[ModelSlot, SlotModel | None]]
) -> dict[str, tuple[ModelSlot, SlotModel | None]]:
    """The enabled slots with their models; None: it could not be loaded and is not required, which is logged.

    Args:
        where: Names the policy in errors.
        loaded: What this gave before: a model that is asked for unchanged is not loaded again.

    Raises:
        ConfigurationError: A required model cannot be loaded.
    """
    result: dict[str, tuple[ModelSlot, SlotModel | None]] = {}
    for name, slot in slots.items():
        if not slot.enabled:
            continue
        before, model = loaded.get(name, (slot, None))
        if model is None or _what_is_loaded(before) != _what_is_loaded(slot):
            try:
                model = load_slot(name, slot, where)
            except ConfigurationError as error:
                if slot.required:
                    raise
                logger.error("%s; it is not required: its check fails %s", error.message, slot.on_error)
                model = None
        result[name] = (slot, model)
    return result


def load_slot(name: str, slot: ModelSlot, where: str) -> SlotModel:
    """Verifies and loads one model. Blocks for seconds.

    Raises:
        ConfigurationError: It cannot be loaded, or does not run; names the file, the key, the value and the mend.
    """
    folder = verify_folder(name, slot, where)
    worst = max if slot.at_most is not None else min
    try:
        return SlotModel(folder, slot.kind, slot.label, slot.max_tokens, worst)
    except Exception as error:
        reason = " ".join(str(error).split())[:500]
        raise ConfigurationError(
            f"{where}: models.{name}.path: got {slot.path!r}: the model in {folder} does not load, or does not run "
            f"with max_tokens {slot.max_tokens} ({type(error).__name__}: {reason}); give the folder of a whole "
            "transformers model for sequence classification with its tokenizer",
            f"models.{name}.path",
        ) from error


def verify_folder(name: str, slot: ModelSlot, where: str) -> Path:
    """The slot's folder, when it is what the policy pins. Reads every byte of it; loads nothing.

    Raises:
        ConfigurationError: It is not; names the file, the key, the value and the mend.
    """

    def refuse(key: str, reason: str) -> ConfigurationError:
        path = f"models.{name}.{key}"
        return ConfigurationError(f"{where}: {path}: got {getattr(slot, key)!r}: {reason}", path)

    folder = project_path(slot.path)
    try:
        found = hash_folder(folder)
    except ConfigurationError as error:
        raise refuse("path", error.message) from error
    if found != slot.sha256:
        raise refuse(
            "sha256",
            f"the files in {folder} have the hash {found}; if they are the ones that you trust, pin it "
            f"({HASH_COMMAND} prints it), else put the right files there",
        )
    names = {path.name for path in folder.iterdir()}
    if not any(file.endswith(".safetensors") for file in names):
        raise refuse(
            "path",
            f"{folder} has no *.safetensors, and nothing else is loaded; write them with "
            "transformers: model.save_pretrained(FOLDER)",
        )
    if "adapter_config.json" in names:
        raise refuse(
            "path", f"{folder} holds an adapter, and its base model would not be pinned; merge the two and save them"
        )
    labels = _read_labels(folder)
    if labels is None:
        raise refuse("path", f"{folder} has no readable config.json; give the folder of a whole model")
    if slot.label not in labels:
        raise refuse("label", f"the model in {folder} has no such class; allowed: {', '.join(labels)}")
    return folder


def hash_folder(folder: Path) -> str:
    """SHA-256 over names and contents of all files below ``folder``, in the order of their names; 64 hex digits.

    Raises:
        ConfigurationError: There is no such folder, it cannot be read, or something in it is neither file nor folder.
    """
    whole = hashlib.sha256()
    try:
        if not folder.is_dir():
            raise ConfigurationError(f"there is no folder {folder}; give the local folder of the model")
        for name, path in sorted(_files_in(folder)):
            # No name holds a NUL and a digest has one length, so no two folders are written alike.
            whole.update(name + b"\0" + _hash_file(path))
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be read ({error.strerror}: {error.filename})") from error
    return whole.hexdigest()


def _files_in(folder: Path) -> list[tuple[bytes, Path]]:
    found: list[tuple[bytes, Path]] = []
    for path in folder.rglob("*"):
        # A link to a file counts as the file, as in a cache of the Hugging Face Hub. rglob follows no link to a
        # folder, so what is behind one would be loaded without having been hashed.
        if path.is_dir() and not path.is_symlink():
            continue
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigurationError(f"{path} is neither a file nor a folder of its own; put the file itself there")
        found.append((os.fsencode(path.relative_to(folder).as_posix()), path))
    return found


def _hash_file(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()


def _clean(text: str) -> str:
    """Without halves of surrogate pairs, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _read_labels(folder: Path) -> list[str] | None:
    try:
        config = json.loads((folder / "config.json").read_bytes())
        labels = config.get("id2label", {"0": "LABEL_0", "1": "LABEL_1"})  # transformers' own default
        return [str(label) for label in labels.values()]
    except (OSError, ValueError, AttributeError):
        return None


def _what_is_loaded(slot: ModelSlot) -> tuple[object, ...]:
    return slot.path, slot.sha256, slot.kind, slot.label, slot.max_tokens, slot.at_most is None


def main(argv: list[str]) -> int:
    if len(argv) != 2 or argv[0] != "hash":
        print(f"usage: {HASH_COMMAND}", file=sys.stderr)
        return 2
    try:
        print(hash_folder(Path(argv[1])))
    except ConfigurationError as error:
        print(error.message, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
