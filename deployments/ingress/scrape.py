"""One Prometheus page for the whole service, merged from each Ray node's exporter. Pure but for ``fetch``."""

import asyncio
import re
from collections.abc import Iterable

import httpx
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

_NOISE = re.compile(r"^(Component|SessionName|Version|otel_scope_)")
"""Labels of Ray's own machinery that tell nothing of the service; the rest keeps replicas apart."""
_KEPT = re.compile(r"^ray_(rheostat|vllm|serve)_")


class _Fixed:
    """A collector of families that were parsed already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def merge(pages: Iterable[str]) -> str:
    """The service's families of all pages as one page.

    Ray's prefix comes off, so that names stay when the serving framework changes; the engine's families appear
    under vLLM's own names (``vllm:``), where benchmark tools look for them.
    """
    families: dict[str, Metric] = {}
    for page in pages:
        for family in text_string_to_metric_families(page):
            if not _KEPT.match(family.name):
                continue
            name = _public_name(family.name)
            merged = families.setdefault(name, Metric(name, family.documentation, family.type))
            for sample in family.samples:
                labels = {name: value for name, value in sample.labels.items() if not _NOISE.match(name)}
                merged.add_sample(_public_name(sample.name), labels, sample.value)
    registry = CollectorRegistry()
    registry.register(_Fixed(families.values()))
    return generate_latest(registry).decode()


def _public_name(name: str) -> str:
    name = name.removeprefix("ray_")
    return name.replace("vllm_", "vllm:", 1) if name.startswith("vllm_") else name


async def fetch(addresses: Iterable[str], timeout_s: float = 2.0) -> list[str]:
    """The metrics pages at ``http://address/metrics``; a node that does not answer is left out."""

    async def one(client: httpx.AsyncClient, address: str) -> str:
        try:
            answer = await client.get(f"http://{address}/metrics")
            return answer.text if answer.is_success else ""
        except httpx.HTTPError:
            return ""

    async with httpx.AsyncClient(timeout=timeout_s, trust_env=False) as client:
        return await asyncio.gather(*(one(client, address) for address in addresses))
