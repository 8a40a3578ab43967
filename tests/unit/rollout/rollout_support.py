"""A registry with real small adapters, for tests of what changes it."""

from pathlib import Path
from typing import Any

from adapter_support import make_base, make_card, write_adapter

from benchmarks.durability.recording import QuickFiles
from deployments.rollout.adapter_store import GateRecord
from deployments.rollout.aliases import Aliases
from deployments.rollout.registry import Registry

START_US = 1_700_000_000_000_000


class Rig:
    """The registry, and what people and programs do to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "registry"
        self.log = folder / "log"
        self.registry = Registry(self.root, QuickFiles())
        self.base = make_base(folder / "models")

    @property
    def aliases(self) -> Aliases:
        return self.registry.aliases()

    def register(self, number: int = 0) -> str:
        folder = write_adapter(self.folder / f"runs/{number}", number)
        return self.registry.register(folder, self.folder / "runs", make_card(self.base), self.base, 16)

    def decide(self, by: str = "tester", now_us: int = START_US) -> dict[str, Any]:
        return {"expected_version": self.aliases.version, "now_us": now_us, "by": by}

    def passed(self, adapter: str, ok: bool = True, at_us: int = START_US) -> None:
        report = {"reasons": ["win rate 0.7"], "win_rate": 0.7}
        self.registry.record_gate(adapter, GateRecord(self.aliases.champion, ok, at_us, report))

    def canary(self, number: int = 0, share: float = 0.5, gated: bool = True) -> str:
        """An adapter that is challenger with this share."""
        adapter = self.register(number)
        self.registry.set_challenger(adapter, **self.decide())
        if gated:
            self.passed(adapter)
        self.registry.set_share(share, **self.decide())
        return adapter

    def promoted(self, number: int = 0) -> str:
        adapter = self.canary(number)
        self.registry.promote(adapter, **self.decide())
        return adapter
