"""One run of the learning loop against a running service, by the loop's own functions: tell, curate, train, gate."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx

from benchmarks.learning.people import Said
from benchmarks.learning.traffic import tell_all
from deployments.controls.catalogue import Catalogue
from deployments.feedback.analysis.period import Scope
from deployments.feedback.contracts import BUILT_IN
from deployments.rollout.operations import Operations
from training.curate import LogSource, curate
from training.curation import CurationParameters, Method
from training.dataset_store import Dataset
from training.evaluate import AskOptions, ServiceClient
from training.gate import GateRules
from training.gating import GateInputs, GateRun, run_gate
from training.judges import Judge
from training.parameters import TrainingParameters
from training.train import register_adapter, train

EVAL_SHARE = 0.4
CONCURRENCY = 16


@dataclass(frozen=True, slots=True)
class Period:
    """When feedback was said: so each run of a benchmark has rows of its own in one log. us since 1970."""

    since_us: int
    until_us: int


@dataclass(frozen=True, slots=True)
class Loop:
    """The loop around one service.

    Args:
        data: The service's ``data_dir``.
    """

    url: str
    data: Path
    model_folder: Path
    catalogue: Catalogue

    @property
    def registry(self) -> Path:
        """The registry that the service follows."""
        return self.data / "registry"

    def tell(self, said: Iterable[Said], rng: Random) -> tuple[Period, int]:
        """Sends feedback; returns its period and how many events were stored."""
        since = _now_us()
        count = tell_all(self.url, said, rng)
        return Period(since, _now_us() + 1), count

    def curate(self, period: Period, **parameters: Any) -> Dataset:
        """A dataset of this period's feedback."""
        scope = Scope(period.since_us, period.until_us, None)
        chosen = CurationParameters(**{"eval_share": EVAL_SHARE, **parameters})
        return curate(self.data / "datasets", chosen, log=LogSource(self.data / "log", BUILT_IN, scope))

    def train(self, dataset: Dataset, method: Method, steps: int, seed: int) -> str:
        """An adapter, trained and registered; its name."""
        from deployments.rollout.registry import Registry

        runs = self.data / "runs"
        chosen = TrainingParameters(method=method, steps=steps, seed=seed)
        trained = train(dataset, self.model_folder, chosen, runs, catalogue=self.catalogue)
        return register_adapter(
            trained, dataset, Registry(self.registry), runs.resolve(), self.data / "log", now_us=_now_us()
        )

    def gate(
        self, adapter: str, seed: int, limit: int, judge: Judge | None = None, rules: GateRules | None = None
    ) -> GateRun:
        """One run of the gate; the challenger is cleared afterwards, whatever came out."""
        inputs = GateInputs(self.registry, self.data / "datasets", adapter, self.data / "log", seed=seed, limit=limit)
        run = asyncio.run(self._gate(inputs, judge, rules))
        if run.decision.passed:
            Operations(self.registry, "benchmark", 30).clear(reason="measured")
        return run

    async def _gate(self, inputs: GateInputs, judge: Judge | None, rules: GateRules | None) -> GateRun:
        asking = AskOptions(concurrency=CONCURRENCY, seed=inputs.seed)
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            return await run_gate(
                inputs,
                self.catalogue,
                lambda options: ServiceClient(client, options, time.monotonic),
                judge,
                rules,
                options=asking,
            )


def _now_us() -> int:
    return time.time_ns() // 1000
