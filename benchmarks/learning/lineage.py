"""Is a dataset rebuilt to the byte, and does an erased row leave the next one and name the adapters it taught?"""

import tempfile
from pathlib import Path
from typing import Any

import httpx

from benchmarks.learning.loop import Loop, Period
from deployments.feedback.analysis.period import Scope
from deployments.feedback.contracts import BUILT_IN
from training.curate import LogSource, curate
from training.curation import CurationParameters


def lineage(loop: Loop, period: Period, adapter: str) -> dict[str, Any]:
    """On the dataset of this period, which ``adapter`` was trained on: built anew, then anew after an erasure."""
    first = loop.curate(period)
    with tempfile.TemporaryDirectory() as elsewhere:
        scope = Scope(period.since_us, period.until_us, None)
        parameters = CurationParameters(**first.manifest["parameters"] | {})
        again = curate(Path(elsewhere), parameters, log=LogSource(loop.data / "log", BUILT_IN, scope))
        rebuilt = again.name == first.name
    trained_on = first.event_ids("sft", ["train"])
    erased = first.read("sft", "train").column("event_id").to_pylist()[0]
    answer = httpx.delete(f"{loop.url}/v1/feedback/{erased}", timeout=60, trust_env=False)
    answer.raise_for_status()
    told = answer.json()
    after = loop.curate(period)
    return {
        "rebuilt_hash_identical": rebuilt,
        "rows": first.manifest["methods"]["sft"]["splits"]["train"]["rows"],
        "erased_row_was_trained_on": erased in trained_on,
        "adapters_told": told["adapters"],
        "adapter_is_told": adapter in told["adapters"],
        "erased_row_in_next_dataset": erased in after.event_ids("sft", ["train", "eval", "vault"]),
        "next_dataset_differs": after.name != first.name,
    }
