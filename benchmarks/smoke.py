"""Does the running service answer? 50 requests, streamed and not, with random controls; 0 may fail.

    python -m benchmarks.smoke [--url http://127.0.0.1:8000] [--requests 50] [--concurrency 4] [--json OUT]

Prints a table last: ok and failed, time to first token, tokens per second. Exits with 1 when anything failed. A
stream counts as ok only with its finish chunk, its verdict and [DONE].
"""

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table

PROMPTS = (
    "Why is the sky blue?",
    "How do I make tea?",
    "Explain what a computer program is.",
    "Give me advice for a first job interview.",
    "What is the difference between weather and climate?",
)
MAX_TOKENS = 96
"""Of each answer, so that the run is short; the dials still move everything else."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. Times in seconds."""

    streamed: bool
    failure: str | None
    first_token_s: float | None
    close_s: float | None
    """From ``[DONE]`` to the end of the connection's answer: clients drop a connection where it takes over 0.1."""
    total_s: float
    tokens: int
    outcome: str
    failed_checks: tuple[str, ...] = ()
    """Checks that found what was not mended."""


def random_controls(rng: random.Random, catalogue: dict[str, Any]) -> dict[str, Any]:
    """Any setting of any dial that the service says it has; needs no sources."""
    controls: dict[str, dict[str, Any]] = {"lp": {}, "ls": {}}
    for knob in catalogue["controls"]:
        if not knob["available"] or knob["name"] == "citations" or rng.random() < 0.6:
            continue
        if knob["kind"] == "lp":
            controls["lp"][knob["name"]] = rng.randint(knob["min"], knob["max"])
        else:
            controls["ls"][knob["name"]] = rng.choice(knob["values"])["value"]
    return controls


async def ask(client: httpx.AsyncClient, body: dict[str, Any]) -> Sample:
    """Sends one request and checks its answer as a careful client would."""
    began = time.monotonic()
    streamed = bool(body.get("stream"))
    try:
        check = _streamed if streamed else _whole
        first, close, tokens, quality = await check(client, body, began)
        failed = tuple(sorted({f["check"] for f in quality["findings"] if f["action"] not in ("note", "fix")}))
        return Sample(streamed, None, first, close, time.monotonic() - began, tokens, quality["outcome"], failed)
    except (httpx.HTTPError, AssertionError, KeyError, ValueError) as error:
        return Sample(streamed, f"{type(error).__name__}: {error}", None, None, time.monotonic() - began, 0, "none")


async def _whole(
    client: httpx.AsyncClient, body: dict[str, Any], began: float
) -> tuple[None, None, int, dict[str, Any]]:
    response = await client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text[:300]
    answer = response.json()
    assert answer["choices"][0]["finish_reason"] in ("stop", "length", "content_filter")
    assert answer["rheostat"]["feedback_token"]
    return None, None, answer["usage"]["completion_tokens"], answer["rheostat"]["quality"]


async def _streamed(
    client: httpx.AsyncClient, body: dict[str, Any], began: float
) -> tuple[float | None, float, int, dict[str, Any]]:
    first, tokens, quality, done_at = None, 0, None, None
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200, (await response.aread()).decode()[:300]
        async for line in response.aiter_lines():
            if not line:
                continue
            assert line.startswith("data: "), line[:100]
            if line == "data: [DONE]":
                done_at = time.monotonic()
                continue
            chunk = json.loads(line[6:])
            assert "error" not in chunk, chunk["error"]
            if first is None and chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                first = time.monotonic() - began
            if "rheostat" in chunk:
                quality = chunk["rheostat"]["quality"]
                assert chunk["rheostat"]["feedback_token"]
            if chunk.get("usage"):
                tokens = chunk["usage"]["completion_tokens"]
    assert done_at is not None, "the stream ended without [DONE]"
    assert quality, "the stream ended without its verdict"
    return first, time.monotonic() - done_at, tokens, quality


async def run(url: str, requests: int, concurrency: int, seed: int) -> tuple[list[Sample], float, dict[str, Any]]:
    """All samples, the seconds they took together, and what the service says of itself."""
    rng = random.Random(seed)
    async with httpx.AsyncClient(base_url=url, timeout=300, trust_env=False) as client:
        model = (await client.get("/v1/models")).json()["data"][0]["id"]
        catalogue = (await client.get("/v1/controls")).json()
        bodies = [
            {
                "model": model,
                "messages": [{"role": "user", "content": rng.choice(PROMPTS)}],
                "controls": random_controls(rng, catalogue),
                "max_tokens": MAX_TOKENS,
                "seed": rng.randrange(2**31),
                **({"stream": True, "stream_options": {"include_usage": True}} if index % 2 else {}),
            }
            for index in range(requests)
        ]
        warm = await client.post("/v1/chat/completions", json={**bodies[0], "stream": False})
        warm.raise_for_status()
        engine, fingerprint = warm.json()["rheostat"]["engine"], warm.json()["system_fingerprint"]
        slots = asyncio.Semaphore(concurrency)

        async def slotted(body: dict[str, Any]) -> Sample:
            async with slots:
                return await ask(client, body)

        began = time.monotonic()
        tasks = [asyncio.create_task(slotted(body)) for body in bodies]
        for task in track(
            asyncio.as_completed(tasks), "asking", total=len(tasks), console=Console(stderr=True), transient=True
        ):
            await task
        return (
            [task.result() for task in tasks],
            time.monotonic() - began,
            {"model": model, "engine": engine, "system_fingerprint": fingerprint},
        )


def summary(samples: list[Sample], total_s: float) -> dict[str, Any]:
    """The figures of the table."""
    firsts = sorted(s.first_token_s for s in samples if s.first_token_s is not None)
    outcomes = sorted({s.outcome for s in samples if s.failure is None})
    return {
        "ok": sum(s.failure is None for s in samples),
        "failed": sum(s.failure is not None for s in samples),
        "first_token_p50_ms": round(statistics.median(firsts) * 1e3, 1) if firsts else None,
        "first_token_p95_ms": round(firsts[int(0.95 * (len(firsts) - 1))] * 1e3, 1) if firsts else None,
        "close_max_ms": round(max((s.close_s for s in samples if s.close_s is not None), default=0.0) * 1e3, 1),
        "tokens": sum(s.tokens for s in samples),
        "tokens_per_s": round(sum(s.tokens for s in samples) / total_s, 1),
        "failed_checks": dict(sorted(Counter(name for s in samples for name in s.failed_checks).items())),
        "outcomes": {name: sum(s.outcome == name for s in samples) for name in outcomes},
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.smoke", description=__doc__.split("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures, versions and machine here")
    options = parser.parse_args()
    try:
        samples, total_s, service = asyncio.run(run(options.url, options.requests, options.concurrency, options.seed))
    except httpx.HTTPError as error:
        print(f"{options.url} does not answer ({type(error).__name__}); start it with: make serve", file=sys.stderr)
        return 1
    figures = summary(samples, total_s)
    if options.json:
        record = {
            "benchmark": "smoke",
            **service,
            "configuration": {
                "requests": options.requests,
                "concurrency": options.concurrency,
                "seed": options.seed,
                "max_tokens": MAX_TOKENS,
            },
            "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
            "versions": {name: version(name) for name in ("rheostat", "ray")},
            "figures": figures,
            "samples": [asdict(sample) for sample in samples],
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    for sample in samples:
        if sample.failure is not None:
            print(f"failed: {sample.failure}", file=sys.stderr)
    simulated = " (simulated engine)" if service["engine"] == "simulated" else ""
    table = Table(title=f"smoke: {options.requests} requests at {options.concurrency}, {service['model']}{simulated}")
    for name in figures:
        table.add_column(name)
    table.add_row(
        *(" ".join(f"{k}:{n}" for k, n in v.items()) if isinstance(v, dict) else str(v) for v in figures.values())
    )
    Console(width=140).print(table)
    return 1 if figures["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
