"""Adapters that never change, each with a card: where it comes from, and how the gate judged it.

    ROOT/adapters/<sha256>/adapter_model.safetensors, adapter_config.json   immutable; named by their own hash
                           card.json       only gates are added
         adapters/.incoming/               what is being registered, or what a kill left of it; the next one empties it

Folders outlive every alias: vLLM reads an adapter's files again whenever it was evicted, and its prefix cache trusts
the path. Whoever writes holds `adapters.lock`; readers take no lock.
"""

import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from deployments.feedback.files import ensure_directory
from deployments.rollout.adapter_files import (
    CONFIG,
    MAX_CONFIG_BYTES,
    WEIGHTS,
    BaseModel,
    check_config,
    check_folder,
    check_weights,
    combined_sha256,
    file_sha256,
)
from deployments.rollout.registry_files import RegistryFiles, as_json, decode, encode
from graph.errors import Conflict, InternalError, InvalidRequest, NotFound

BASE = "base"
"""The base model without an adapter, where an adapter's name is expected."""
ADAPTERS, INCOMING, CARD = "adapters", ".incoming", "card.json"
ADAPTER_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class GateRecord:
    """One run of the gate."""

    champion: str
    """Against which it was measured: an adapter, or `BASE`."""
    passed: bool
    at_us: int
    report: Mapping[str, Any]
    """JSON, as `GateDecision.as_json` gives it."""


@dataclass(frozen=True, slots=True)
class AdapterCard:
    """Where an adapter comes from."""

    dataset: str
    """Hash of the dataset's manifest."""
    base_model: str
    base_sha256: str
    configuration: Mapping[str, Any]
    """Of the training, JSON."""
    seed: int
    metrics: Mapping[str, float]
    """Of the training, such as loss and reward margin; shown, never a gate."""
    parent: str
    """The adapter that training began from, or `BASE`."""
    created_us: int
    gates: tuple[GateRecord, ...] = ()
    """Oldest first."""

    def same_origin(self, other: "AdapterCard") -> bool:
        """Whether both speak of one training, whenever it ended and however long it took."""
        mine, others = asdict(self), asdict(other)
        return all(mine[key] == others[key] for key in ("dataset", "base_sha256", "configuration", "seed", "parent"))


class AdapterStore:
    """The adapters below one registry's folder.

    Args:
        files: How that folder is written.
    """

    def __init__(self, files: RegistryFiles) -> None:
        self._root = files.root
        self._files = files

    def register(self, folder: Path, within: Path, card: AdapterCard, base: BaseModel, max_lora_rank: int) -> str:
        """Admit an adapter, durable on return, and return its name, the sha256 of its content. Blocks.

        It is copied, and the copy is checked: what changes in ``folder`` afterwards changes nothing. The same again
        does nothing, and the first card stays.

        Args:
            folder: What training saved; may be removed afterwards.
            within: The only place that it may lie in, such as the folder of all runs.
            card: Without gates.
            base: The model that is served.
            max_lora_rank: The engine's setting.

        Raises:
            InvalidRequest: The adapter cannot be served as it was trained (see `adapter_files`), is of another base
                model, or its card is not complete.
            NotFound: The card's parent is not registered.
            Conflict: The same content was registered with another origin.
            InternalError: It is here already, damaged.
            Unavailable: Another registration takes too long.
            OSError: The disk is full, or fails.
        """
        source = check_folder(folder, within)
        config = check_config(_read_plain(source / CONFIG, MAX_CONFIG_BYTES), base, max_lora_rank)
        card = self._checked_card(card, base)
        with self._files.locked("adapters.lock"):
            incoming = self._root / ADAPTERS / INCOMING
            self._empty(incoming)
            ensure_directory(incoming, self._files.layer)
            try:
                self._files.write(incoming / CONFIG, config.encode())
                self._files.copy(source / WEIGHTS, incoming / WEIGHTS)
                check_weights(incoming / WEIGHTS, config, base)
                adapter = _content_sha256(incoming)
                if self._is_there(adapter):
                    self._check_same(adapter, card)
                    # Whoever put it there may have been killed before its own sync.
                    self._files.layer.fsync_dir(self._root / ADAPTERS)
                    return adapter
                self._files.write(incoming / CARD, encode({"adapter": adapter, **asdict(card)}))
                self._files.layer.fsync_dir(incoming)
                self._files.layer.rename(incoming, self._folder(adapter))
                self._files.layer.fsync_dir(self._root / ADAPTERS)
            finally:
                # What was refused goes; after the rename nothing is here. If it fails, the next registration does it.
                with suppress(OSError):
                    self._empty(incoming)
        return adapter

    def adapters(self) -> tuple[str, ...]:
        """Return the names of all adapters, sorted."""
        folder = self._root / ADAPTERS
        if not folder.is_dir():
            return ()
        return tuple(sorted(path.name for path in folder.glob("*") if ADAPTER_NAME.fullmatch(path.name)))

    def path(self, adapter: str) -> Path:
        """Return an adapter's folder; it never changes and never goes away.

        Raises:
            InvalidRequest: This is no adapter's name.
            NotFound: It is not registered.
        """
        if not self._is_there(adapter):
            raise NotFound(f"The adapter {adapter} is not registered in {self._root}; see: python -m training status")
        return self._folder(adapter)

    def verify(self, adapter: str) -> Path:
        """Return an adapter's folder if its content is what its name says. Blocks: reads every byte.

        A replica calls it before it loads; if it raises, it goes on serving what it has.

        Raises:
            InvalidRequest: This is no adapter's name.
            NotFound: It is not registered.
            InternalError: It is damaged.
        """
        folder = self.path(adapter)
        try:
            found = _content_sha256(folder)
        except OSError as error:
            raise InternalError(f"The adapter {adapter} cannot be read: {error}. {_mend(folder)}") from error
        if found != adapter:
            raise InternalError(
                f"The adapter {adapter} is damaged: its content has the sha256 {found}. {_mend(folder)}"
            )
        return folder

    def card(self, adapter: str) -> AdapterCard:
        """Return an adapter's card.

        Raises:
            InvalidRequest: This is no adapter's name.
            NotFound: It is not registered.
            InternalError: The card is damaged.
        """
        path = self.path(adapter) / CARD
        try:
            stated = decode(path.read_bytes())
            if stated.pop("adapter") != adapter:
                raise ValueError("it is another adapter's")
            gates = tuple(GateRecord(**gate) for gate in stated.pop("gates"))
            return AdapterCard(**stated, gates=gates)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise InternalError(f"The card {path} cannot be trusted: {error}. {_mend(path.parent)}") from error

    def record_gate(self, adapter: str, record: GateRecord) -> None:
        """Add one run of the gate to an adapter's card: durable on return. The same again does nothing.

        Raises:
            InvalidRequest: The name is none, or the report is no JSON.
            NotFound: The adapter is not registered.
            InternalError: The card is damaged.
        """
        record = replace(record, report=as_json("report", record.report))
        with self._files.locked("adapters.lock"):
            card = self.card(adapter)
            if record in card.gates:
                self._files.layer.fsync_dir(self._folder(adapter))
                return
            card = replace(card, gates=(*card.gates, record))
            self._files.replace(self._folder(adapter) / CARD, encode({"adapter": adapter, **asdict(card)}))

    def _folder(self, adapter: str) -> Path:
        return self._root / ADAPTERS / adapter

    def _is_there(self, adapter: str) -> bool:
        if not ADAPTER_NAME.fullmatch(adapter):
            raise InvalidRequest(
                f"{adapter!r} is no adapter's name; names are the 64 hexadecimal digits that registration returned.",
                param="adapter",
            )
        return self._folder(adapter).is_dir()

    def _checked_card(self, card: AdapterCard, base: BaseModel) -> AdapterCard:
        """The card as it comes back from JSON."""
        if card.base_sha256 != base.sha256:
            raise InvalidRequest(
                f"The adapter was trained on a base model with the sha256 {card.base_sha256}; served is {base.name!r} "
                f"with {base.sha256}. Train it on the model that is served.",
                param="base_sha256",
            )
        if not card.dataset:
            raise InvalidRequest("The card names no dataset; give the hash of its manifest.", param="dataset")
        if card.gates:
            raise InvalidRequest("A new adapter has no gates yet; add them with record_gate.", param="gates")
        for name, value in card.metrics.items():
            if not math.isfinite(value):
                raise InvalidRequest(f"The metric {name!r} is {value}; training diverged, do not serve it.", name)
        if card.parent != BASE:
            self.path(card.parent)
        configuration = as_json("configuration", card.configuration)
        return replace(card, configuration=configuration, metrics=as_json("metrics", card.metrics))

    def _check_same(self, adapter: str, card: AdapterCard) -> None:
        self.verify(adapter)
        if not self.card(adapter).same_origin(card):
            raise Conflict(
                f"The adapter {adapter} was registered before, with another dataset, base, configuration, seed or "
                "parent in its card. An adapter has one origin: see which of them is true.",
                param="adapter",
            )

    def _empty(self, folder: Path) -> None:
        if folder.is_dir():
            for path in folder.iterdir():
                self._files.layer.unlink(path)
            with suppress(FileNotFoundError):
                os.rmdir(folder)


def _content_sha256(folder: Path) -> str:
    return combined_sha256({name: file_sha256(folder / name) for name in (CONFIG, WEIGHTS)})


def _read_plain(path: Path, most: int) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        return file.read(most)


def _mend(folder: Path) -> str:
    return f"Move {folder} away and register the adapter again; the champion goes on serving."
