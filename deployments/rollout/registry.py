"""The registry: adapters that never change, and the aliases that say which of them is served.

    ROOT/adapters/<sha256>/adapter_model.safetensors, adapter_config.json   immutable; named by their own hash
                           card.json       where it comes from and how the gate judged it; only gates are added
         adapters/.incoming/               what is being registered, or what a kill left of it; the next one empties it
         aliases.json                      champion, challenger, previous, and their history; the only truth
         adapters.lock, aliases.lock       flocks: the kernel frees them when their holder ends, by whatever end

Folders outlive every alias: vLLM reads an adapter's files again whenever it was evicted, and its prefix cache trusts
the path. Aliases change by compare-and-swap: the caller says which version it decided upon, and if another one came
first nothing happens but a `Conflict`. Each change is one atomic rename: a crash leaves the old state or the new one.
Readers take no lock. Writers must share a file system whose flock holds between them: one machine, or NFS from v4 on.

    champion, challenger, previous = C, X, P
      promote X   ->  X, none, C
      roll back   ->  C, none, X      the inverse; X can be promoted again, and a second roll back is refused

Knows nothing of Ray, vLLM or HTTP. The command line, the admin route and the canary's monitor write, replicas read.
"""

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from deployments.feedback.files import FileLayer, LocalFiles, ensure_directory, replace_file, try_lock, write_all
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
from graph.errors import Conflict, InternalError, InvalidRequest, NotFound, Unavailable

BASE = "base"
"""The base model without an adapter, where an adapter's name is expected."""
ADAPTERS, INCOMING, CARD, ALIASES = "adapters", ".incoming", "card.json", "aliases.json"
FORMAT = 1
HISTORY_CHANGES = 1000
"""Kept in the aliases' file; all of them are events in the feedback log."""
MAX_REASON_CHARS = 2000
_COPY_BYTES = 2**22
_POLL_S = 0.005
_ADAPTER = re.compile(r"[0-9a-f]{64}")

Action = Literal["set_challenger", "set_share", "clear_challenger", "promote", "roll_back"]


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


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the history: what was done, and the aliases after it."""

    version: int
    action: Action
    adapter: str
    """What the action was about: the adapter, or `BASE`."""
    champion: str
    challenger: str | None
    previous: str | None
    share: float
    at_us: int
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Aliases:
    """Which adapter plays which part; each is an adapter's name or, but for the challenger, may be `BASE`."""

    version: int = 0
    champion: str = BASE
    challenger: str | None = None
    previous: str | None = None
    """What a rollback would serve; None: nothing was promoted yet."""
    share: float = 0.0
    """Of the traffic that the challenger answers, from 0 to 1; 0: only the gate and its likes reach it."""
    rolled_back: bool = False
    """Whether the champion is what a rollback brought back."""
    history: tuple[Change, ...] = ()
    """Oldest first, the newest `HISTORY_CHANGES`."""

    @property
    def resident(self) -> tuple[str, ...]:
        """Adapters that every replica keeps loaded."""
        named = (self.champion, self.challenger, self.previous)
        return tuple(dict.fromkeys(name for name in named if name is not None and name != BASE))


class Registry:
    """Adapters and aliases below one folder. Any number of objects and processes may share it.

    Args:
        root: Made at the first registration or change if missing.
        files: How it is written; None: the real file system.
        lock_wait_s: How long a change waits for another one, which takes milliseconds.
        clock: Monotonic seconds, for that wait.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        root: Path,
        files: FileLayer | None = None,
        lock_wait_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._root = root
        self._files = files or LocalFiles()
        self._lock_wait_s = lock_wait_s
        self._clock = clock
        self._sleep = sleep

    # Adapters

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
        with self._locked("adapters.lock"):
            incoming = self._root / ADAPTERS / INCOMING
            self._empty(incoming)
            ensure_directory(incoming, self._files)
            try:
                self._write(incoming / CONFIG, config.encode())
                self._copy(source / WEIGHTS, incoming / WEIGHTS)
                check_weights(incoming / WEIGHTS, config, base)
                adapter = _content_sha256(incoming)
                if self._is_there(adapter):
                    self._check_same(adapter, card)
                    # Whoever put it there may have been killed before its own sync.
                    self._files.fsync_dir(self._root / ADAPTERS)
                    return adapter
                self._write(incoming / CARD, _encode({"adapter": adapter, **asdict(card)}))
                self._files.fsync_dir(incoming)
                self._files.rename(incoming, self._folder(adapter))
                self._files.fsync_dir(self._root / ADAPTERS)
            finally:
                # What was refused goes; after the rename nothing is here. If it fails, the next registration does it.
                with suppress(OSError):
                    self._empty(incoming)
        return adapter

    def adapters(self) -> tuple[str, ...]:
        """Return the names of all adapters, sorted."""
        folder = self._root / ADAPTERS
        return tuple(sorted(p.name for p in folder.glob("*") if _ADAPTER.fullmatch(p.name))) if folder.is_dir() else ()

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
            stated = _decode(path.read_bytes())
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
        record = replace(record, report=_as_json("report", record.report))
        with self._locked("adapters.lock"):
            card = self.card(adapter)
            if record in card.gates:
                self._files.fsync_dir(self._folder(adapter))
                return
            card = replace(card, gates=(*card.gates, record))
            replace_file(self._folder(adapter) / CARD, _encode({"adapter": adapter, **asdict(card)}), self._files)

    # Aliases

    def aliases(self) -> Aliases:
        """Return the current aliases; before the first change, the base model is champion. Takes no lock.

        Raises:
            InternalError: The file is damaged. Whoever serves goes on with the aliases it knows.
        """
        path = self._root / ALIASES
        try:
            stated = _decode(path.read_bytes())
            aliases = Aliases(**{**stated, "history": tuple(Change(**change) for change in stated["history"])})
            for name in (aliases.champion, aliases.challenger, aliases.previous):
                if name is not None and name != BASE and not _ADAPTER.fullmatch(name):
                    raise ValueError(f"{name!r} is no adapter's name")
            return aliases
        except FileNotFoundError:
            return Aliases()
        except (KeyError, TypeError, ValueError) as error:
            raise InternalError(
                f"The aliases {path} cannot be trusted: {error}. Restore the file from a copy; what is served stays."
            ) from error

    def set_challenger(self, adapter: str, *, expected_version: int, now_us: int, by: str, reason: str = "") -> Aliases:
        """Make a registered adapter the challenger, so that replicas load it. Returns the new aliases.

        Raises:
            Conflict: The aliases are no longer at ``expected_version``, another adapter is the challenger, or this one
                is the champion.
            InvalidRequest, NotFound, InternalError: As `verify` does.
            Unavailable: Another change takes too long.
        """
        self.verify(adapter)

        def move(now: Aliases) -> Aliases:
            if now.challenger not in (None, adapter):
                raise Conflict(
                    f"The challenger is {now.challenger}; promote it or clear it before {adapter} can take its place."
                )
            if now.champion == adapter:
                raise Conflict(f"The adapter {adapter} is the champion already; there is nothing to challenge.")
            return now if now.challenger == adapter else replace(now, challenger=adapter, share=0.0)

        return self._change("set_challenger", lambda now: adapter, move, expected_version, now_us, by, reason)

    def set_share(self, share: float, *, expected_version: int, now_us: int, by: str, reason: str = "") -> Aliases:
        """Give the challenger this share of the traffic. Returns the new aliases.

        Raises:
            Conflict: The aliases are no longer at ``expected_version``, or there is no challenger.
            InvalidRequest: The share is not from 0 to 1.
            Unavailable: Another change takes too long.
        """
        if not 0 <= share <= 1:
            raise InvalidRequest(f"The share is {share}; it must be from 0 to 1, such as 0.05.", param="share")

        def move(now: Aliases) -> Aliases:
            if now.challenger is None:
                raise Conflict("There is no challenger to give traffic to; name one: python -m training canary")
            return replace(now, share=share)

        return self._change("set_share", lambda now: now.challenger or "", move, expected_version, now_us, by, reason)

    def clear_challenger(self, *, expected_version: int, now_us: int, by: str, reason: str = "") -> Aliases:
        """Take the challenger away: its canary failed, or nobody wants it. Returns the new aliases.

        Raises:
            Conflict: The aliases are no longer at ``expected_version``, or there is no challenger.
            Unavailable: Another change takes too long.
        """

        def move(now: Aliases) -> Aliases:
            if now.challenger is None:
                raise Conflict("There is no challenger to clear.")
            return replace(now, challenger=None, share=0.0)

        return self._change(
            "clear_challenger", lambda now: now.challenger or "", move, expected_version, now_us, by, reason
        )

    def promote(
        self, adapter: str, *, expected_version: int, now_us: int, by: str, reason: str = "", ungated: bool = False
    ) -> Aliases:
        """Make the challenger champion and the champion previous, in one step. Returns the new aliases.

        After a rollback, ``previous`` can be promoted in the same way.

        Args:
            adapter: The challenger, or previous.
            expected_version: Of the aliases that this was decided upon.
            now_us: Time of the change, microseconds since 1970.
            by: Who decided.
            reason: Why; for the history.
            ungated: Promote although the gate did not pass it against this champion; say in ``reason`` why.

        Raises:
            Conflict: The aliases are no longer at ``expected_version``, the adapter is neither challenger nor previous,
                or its last gate against this champion did not pass or never ran.
            InvalidRequest, NotFound, InternalError: As `verify` does.
            Unavailable: Another change takes too long.
        """
        self.verify(adapter)
        gates = self.card(adapter).gates

        def move(now: Aliases) -> Aliases:
            if adapter not in (now.challenger, now.previous):
                raise Conflict(
                    f"The adapter {adapter} is neither challenger ({now.challenger or 'none'}) nor previous "
                    f"({now.previous or 'none'}); make it the challenger first."
                )
            if not ungated:
                _check_gate(adapter, [gate for gate in gates if gate.champion == now.champion], now.champion)
            challenger = None if now.challenger == adapter else now.challenger
            return replace(
                now,
                champion=adapter,
                challenger=challenger,
                previous=now.champion,
                share=0.0,
                rolled_back=False,
            )

        return self._change("promote", lambda now: adapter, move, expected_version, now_us, by, reason)

    def roll_back(self, *, expected_version: int, now_us: int, by: str, reason: str = "") -> Aliases:
        """Bring the previous champion back, in one step: promotion's inverse. Returns the new aliases.

        Nothing is read but the aliases: it must work when disks are slow, and the previous adapter is loaded anyway.

        Raises:
            Conflict: The aliases are no longer at ``expected_version``, nothing was promoted yet, or the champion is
                itself what a rollback brought back: a second one would serve again what was taken back.
            Unavailable: Another change takes too long.
        """

        def move(now: Aliases) -> Aliases:
            if now.previous is None:
                raise Conflict(
                    f"Nothing was promoted yet, so there is nothing to roll back to; serving {now.champion}."
                )
            if now.rolled_back:
                raise Conflict(
                    f"It was rolled back already: {now.champion} is served and {now.previous} was taken back. "
                    f"To serve that one again, promote it."
                )
            # A canary was compared with the champion that goes: it gets no more traffic.
            challenger = None if now.challenger == now.previous else now.challenger
            return replace(
                now,
                champion=now.previous,
                challenger=challenger,
                previous=now.champion,
                share=0.0,
                rolled_back=True,
            )

        return self._change("roll_back", lambda now: now.champion, move, expected_version, now_us, by, reason)

    def _change(
        self,
        action: Action,
        about: Callable[[Aliases], str],
        move: Callable[[Aliases], Aliases],
        expected_version: int,
        now_us: int,
        by: str,
        reason: str,
    ) -> Aliases:
        if len(reason) > MAX_REASON_CHARS:
            raise InvalidRequest(
                f"The reason has {len(reason)} characters; at most {MAX_REASON_CHARS}.", param="reason"
            )
        with self._locked("aliases.lock"):
            now = self.aliases()
            if now.version != expected_version:
                raise Conflict(_outdated(now, expected_version))
            after = replace(move(now), version=now.version + 1)
            change = Change(
                after.version,
                action,
                about(now),
                after.champion,
                after.challenger,
                after.previous,
                after.share,
                now_us,
                by,
                reason,
            )
            after = replace(after, history=(*now.history, change)[-HISTORY_CHANGES:])
            replace_file(self._root / ALIASES, _encode(asdict(after)), self._files)
        return after

    # Files

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        ensure_directory(self._root, self._files)
        until = self._clock() + self._lock_wait_s
        while (lock := try_lock(self._root / name)) is None:
            if self._clock() >= until:
                raise Unavailable(
                    f"Another process has held {self._root / name} for {self._lock_wait_s:g} s; try again soon."
                )
            self._sleep(_POLL_S)
        try:
            yield
        finally:
            lock.close()

    def _folder(self, adapter: str) -> Path:
        return self._root / ADAPTERS / adapter

    def _is_there(self, adapter: str) -> bool:
        if not _ADAPTER.fullmatch(adapter):
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
        configuration = _as_json("configuration", card.configuration)
        return replace(card, configuration=configuration, metrics=_as_json("metrics", card.metrics))

    def _check_same(self, adapter: str, card: AdapterCard) -> None:
        self.verify(adapter)
        if not self.card(adapter).same_origin(card):
            raise Conflict(
                f"The adapter {adapter} was registered before, with another dataset, base, configuration, seed or "
                "parent in its card. An adapter has one origin: see which of them is true.",
                param="adapter",
            )

    def _write(self, path: Path, data: bytes) -> None:
        fd = self._files.create(path, exclusive=True)
        try:
            write_all(self._files, fd, data)
            self._files.fdatasync(fd)
        finally:
            self._files.close(fd)

    def _copy(self, source: Path, target: Path) -> None:
        fd = self._files.create(target, exclusive=True)
        try:
            with open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                while data := file.read(_COPY_BYTES):
                    write_all(self._files, fd, data)
            self._files.fdatasync(fd)
        finally:
            self._files.close(fd)

    def _empty(self, folder: Path) -> None:
        if folder.is_dir():
            for path in folder.iterdir():
                self._files.unlink(path)
            with suppress(FileNotFoundError):
                os.rmdir(folder)


def _content_sha256(folder: Path) -> str:
    return combined_sha256({name: file_sha256(folder / name) for name in (CONFIG, WEIGHTS)})


def _read_plain(path: Path, most: int) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        return file.read(most)


def _encode(content: Mapping[str, Any]) -> bytes:
    stated = {"format": FORMAT, **content}
    return (json.dumps(stated | {"sha256": _sha256(stated)}, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _decode(data: bytes) -> dict[str, Any]:
    stated = json.loads(data)
    if not isinstance(stated, dict):
        raise ValueError("it is not an object")
    if stated.pop("sha256", None) != _sha256(stated):
        raise ValueError("its sha256 is not that of its content")
    if stated.pop("format") != FORMAT:
        raise ValueError(f"it has another format than {FORMAT}, the one this version reads: upgrade")
    return stated


def _sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _as_json(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """The value as it comes back from JSON: with lists for tuples, so that equal cards compare equal."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"The {name} cannot be kept as JSON: {error}.", param=name) from None
    return plain


def _check_gate(adapter: str, gates: list[GateRecord], champion: str) -> None:
    if not gates:
        raise Conflict(
            f"The gate has not compared {adapter} with the champion, {champion}; run: python -m training gate"
        )
    if not gates[-1].passed:
        reasons = gates[-1].report.get("reasons", ())
        raise Conflict(f"The gate did not pass {adapter} against {champion}: {'; '.join(reasons) or 'see its card'}")


def _outdated(now: Aliases, expected_version: int) -> str:
    last = f", by {now.history[-1].action} of {now.history[-1].adapter}" if now.history else ""
    return (
        f"The aliases are at version {now.version}{last}, and this change was decided upon version {expected_version}: "
        f"another one came first. The champion is {now.champion}. Look again (python -m training status), then decide."
    )


def _mend(folder: Path) -> str:
    return f"Move {folder} away and register the adapter again; the champion goes on serving."
