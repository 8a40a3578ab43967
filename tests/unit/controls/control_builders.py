"""Builders for the control tests: the shipped catalogue, and a request compiled against it in one call."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployments.controls.catalogue import Catalogue, load_catalogue
from deployments.controls.compiler import CallerSampling, CompiledControls, compile_controls
from deployments.controls.request import parse_controls, resolve
from graph.contracts import Message

CATALOGUE_FILE = Path(__file__).parents[3] / "configs" / "controls.yaml"
CATALOGUE = load_catalogue(CATALOGUE_FILE)
CONVERSATION = (
    Message("system", "Be kind."),
    Message("user", "Why is the sky blue?"),
    Message("assistant", "Because of scattering."),
    Message("user", "Tell me more. "),
)
SOURCES = [{"id": "s1", "text": "The sky scatters blue light."}, {"id": "a.b-c", "text": "Water is wet."}]


def make_compiled(
    lp: Mapping[str, int] | None = None,
    ls: Mapping[str, str] | None = None,
    *,
    asked: CallerSampling | None = None,
    sources: list[dict[str, str]] | None = None,
    render: str | None = None,
    capabilities: frozenset[str] = frozenset(),
    json_schema: Mapping[str, Any] | None = None,
    messages: tuple[Message, ...] = CONVERSATION,
    max_context: int = 100_000,
    catalogue: Catalogue = CATALOGUE,
) -> CompiledControls:
    request = parse_controls({"lp": lp or {}, "ls": ls or {}, "sources": sources or [], "render": render})
    return compile_controls(
        resolve(catalogue, request, capabilities),
        catalogue,
        messages,
        asked or CallerSampling(),
        json_schema=json_schema,
        max_context=max_context,
    )
