"""Is every event counted exactly once, by every reader, when clients retry and replicas are killed?

    python -m benchmarks.exactly_once [--events 3000] [--answers 400] [--kills 8] [--seed 1] [--json OUT]

Starts the service itself on a simulated engine, asks for answers, and sends feedback on them as a careful client does:
with an event_id, and again, unchanged, after anything but an answer (a timeout, a cut connection, a 5xx), until it is
acknowledged. One request in ten is sent again although it was acknowledged. Raters change their minds, retract and
supersede. Meanwhile FeedbackLog and Ingress replicas are killed (SIGKILL), and sealed segments are compacted.

Afterwards a model in plain Python says what must be counted, and four readers are asked: the report, SQL, the HTML and
the training rows. All five must be equal.
"""

import argparse
import asyncio
import contextlib
import json
import random
import re
import subprocess
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.record import write_record
from benchmarks.service import Running, running
from graph.settings import PROJECT_ROOT

MODEL = "smollm2-135m-instruct"
CHOICES = 4
"""Answers a chat request: each has a token of its own."""
CLIENTS = 16
TRY_FOR_S = 120.0
PAUSE_S = 0.2
COUNTED = ("thumb", "rating", "comment")


@dataclass
class Said:
    """One event that was acknowledged and not taken back."""

    event_id: str
    token: str
    thumb: bool | None


@dataclass
class Expected:
    """What was sent and acknowledged, kept by rules of its own: of each rater the last word on an answer counts."""

    distinct: int = 0
    """Event ids."""
    said: dict[tuple[Any, ...], list[Said]] = field(default_factory=dict)
    """By (answer, kind, rater; for a comment its own id too), oldest first; never an empty list."""

    def counts(self) -> Counter[str]:
        """By the names that the readers give them."""
        thumbs = [words[-1].thumb for words in self.said.values() if words[-1].thumb is not None]
        return Counter(feedback=self.distinct, joined=len(self.said), thumbs=len(thumbs), approved=sum(thumbs))


@dataclass
class Tally:
    """What happened on the way."""

    sent: int = 0
    acknowledged: int = 0
    repeated: int = 0
    """Sent again although acknowledged."""
    duplicates: int = 0
    """Acknowledged as duplicates."""
    failed_tries: int = 0
    """Ended in anything but a 200."""
    refused: int = 0
    """Ended in a 4xx: none is expected."""
    kills: dict[str, int] = field(default_factory=dict)


class Rater:
    """One client with its share of the answers; one event at a time, so that its last word is the last one written."""

    def __init__(self, session: aiohttp.ClientSession, tokens: list[str], seed: str, tally: Tally) -> None:
        self._session = session
        self._tokens = tokens
        self._rng = random.Random(seed)
        self._tally = tally
        self.expected = Expected()

    async def send(self, events: int, tick: Callable[[], None]) -> None:
        """Sends ``events`` events until each is acknowledged."""
        for _ in range(events):
            token = self._rng.randrange(len(self._tokens))
            draw = self._rng.random()
            if draw < 0.05 and self.expected.said:
                await self._take_back()
            elif draw < 0.10 and self.expected.said:
                await self._turn()
            else:
                await self._rate(token)
            tick()

    async def _rate(self, token: int) -> None:
        kind = self._rng.choices(COUNTED, (6, 2, 2))[0]
        rater = self._rng.choice((None, "ann", "bob"))
        thumb = self._rng.random() < 0.7 if kind == "thumb" else None
        body: dict[str, Any] = {"kind": kind, "feedback_token": self._tokens[token]}
        if kind == "comment":
            body["text"] = "Too long."
        else:
            body["value"] = thumb if kind == "thumb" else self._rng.randint(1, 5)
        if rater is not None:
            body["rater"] = rater
        event_id = await self._post(body)
        key = (token, kind, rater, event_id if kind == "comment" else None)
        self.expected.said.setdefault(key, []).append(Said(event_id, self._tokens[token], thumb))

    async def _take_back(self) -> None:
        """A retract of any earlier event; what the rater had said before it counts again."""
        key = self._rng.choice(list(self.expected.said))
        words = self.expected.said[key]
        word = words.pop(self._rng.randrange(len(words)))
        if not words:
            del self.expected.said[key]
        await self._post({"kind": "retract", "supersedes": word.event_id, "feedback_token": word.token})

    async def _turn(self) -> None:
        """A supersede of any earlier thumb."""
        thumbs = [word for words in self.expected.said.values() for word in words if word.thumb is not None]
        if thumbs:
            word = self._rng.choice(thumbs)
            word.thumb = not word.thumb
            body = {"kind": "supersede", "supersedes": word.event_id, "value": word.thumb}
            await self._post({**body, "feedback_token": word.token})

    async def _post(self, body: dict[str, Any]) -> str:
        event_id = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        body["event_id"] = event_id
        await self._until_acknowledged(body)
        self._tally.acknowledged += 1
        self.expected.distinct += 1
        if self._rng.random() < 0.1:
            self._tally.repeated += 1
            await self._until_acknowledged(body)
        return event_id

    async def _until_acknowledged(self, body: dict[str, Any]) -> None:
        async with asyncio.timeout(TRY_FOR_S):
            while True:
                self._tally.sent += 1
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with self._session.post("/v1/feedback", json=body) as answer:
                        if answer.status == 200:
                            self._tally.duplicates += (await answer.json())["duplicate"]
                            return
                        if answer.status < 500 and answer.status != 408 and answer.status != 429:
                            self._tally.refused += 1
                            raise AssertionError(f"{answer.status} {await answer.text()}")
                self._tally.failed_tries += 1
                await asyncio.sleep(PAUSE_S)


async def ask(session: aiohttp.ClientSession, answers: int) -> list[str]:
    """The feedback tokens of ``answers`` answers."""
    tokens: list[str] = []
    while len(tokens) < answers:
        question = {"role": "user", "content": f"Question {len(tokens)}: why is the sky blue?"}
        body = {"model": MODEL, "messages": [question], "n": CHOICES, "max_tokens": 16}
        async with session.post("/v1/chat/completions", json=body) as answer:
            answer.raise_for_status()
            tokens += [choice["rheostat"]["feedback_token"] for choice in (await answer.json())["choices"]]
    return tokens


async def drive(service: Running, options: argparse.Namespace, tick: Callable[[], None]) -> tuple[Counter[str], Tally]:
    """Sends everything, with kills on the way; what must be counted, and what happened."""
    tally = Tally()
    timeout = aiohttp.ClientTimeout(total=15)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(service.url, connector=connector, timeout=timeout) as session:
        tokens = await ask(session, options.answers)
        raters = [
            Rater(session, tokens[number::CLIENTS], f"{options.seed} {number}", tally) for number in range(CLIENTS)
        ]
        share = options.events // CLIENTS
        marks = [(index + 1) * share * CLIENTS // (options.kills + 1) for index in range(options.kills)]

        def advance() -> None:
            tick()
            if marks and tally.acknowledged >= marks[0]:
                name = "Ingress" if len(marks) % 4 == 0 else "FeedbackLog"
                marks.pop(0)
                for process in service.replicas(name):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
                        tally.kills[name] = tally.kills.get(name, 0) + 1

        async with asyncio.TaskGroup() as group:
            for rater in raters:
                group.create_task(rater.send(share, advance))
    counts: Counter[str] = Counter()
    for rater in raters:
        counts.update(rater.expected.counts())
    counts["generations"] = len(tokens) + 1  # the launcher asks a first question
    return counts, tally


MUST_SAY = {
    "report": {"feedback", "joined", "thumbs", "generations"},
    "sql": {"feedback", "joined", "thumbs", "generations", "approved"},
    "html": {"feedback", "joined", "thumbs", "generations"},
    "training rows": {"joined", "thumbs", "approved"},
}
"""What each reader has to count."""


def read_everywhere(log: Path) -> dict[str, dict[str, int]]:
    """What each reader counts; what one cannot know is left out."""
    sql = {name: f"(SELECT count(*) FROM {name})" for name in MUST_SAY["report"]}
    sql["approved"] = "(SELECT count(*) FROM thumbs WHERE approved)"
    statement = "SELECT " + ", ".join(f"{query} AS {name}" for name, query in sql.items())
    with tempfile.TemporaryDirectory() as folder:
        html, training = Path(folder, "report.html"), Path(folder, "training")
        report = json.loads(_analysis(log, "report", "--since", "all", "--json", "-", "--html", str(html)))
        (answers,) = json.loads(_analysis(log, "sql", statement, "--format", "json"))
        _analysis(log, "export", "--out", str(training))
        rows = pq.read_table(training, columns=["value_bool"])
        shown = re.findall(r'data-count="(\w+)" data-value="(\d+)"', html.read_text())
    thumbs = rows.column("value_bool").drop_null()
    return {
        "report": {name: report["counts"][name] for name in MUST_SAY["report"]},
        "sql": answers,
        "html": {name: int(value) for name, value in shown if name in sql},
        "training rows": {
            "joined": rows.num_rows,
            "thumbs": len(thumbs),
            "approved": sum(thumbs.to_pylist()),
        },
    }


def _analysis(log: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "deployments.feedback.analysis", *arguments, "--log", str(log)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT_ROOT, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr[-2000:]}")
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exactly_once", description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=3000)
    parser.add_argument("--answers", type=int, default=400)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures, versions and machine here")
    options = parser.parse_args()
    console = Console(stderr=True)
    # So that sealing, compaction and both kinds of reading are under way while replicas die.
    log_settings = {"segment_max_rows": 200, "compact_every_s": 3}
    with console.status("starting the service"), contextlib.ExitStack() as stack:
        service = stack.enter_context(running(user_config={"FeedbackLog": log_settings}))
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("feedback, with kills", total=options.events // CLIENTS * CLIENTS)
            expected, tally = asyncio.run(drive(service, options, lambda: progress.advance(task)))
        found = read_everywhere(service.data_dir / "log")
    wrong = [
        f"{reader} says {counts[name]} {name}, expected {expected[name]}"
        for reader, counts in found.items()
        for name in counts
        if counts[name] != expected[name]
    ] + [f"{reader} does not say {name}" for reader, names in MUST_SAY.items() for name in names - found[reader].keys()]
    figures = {**asdict(tally), "expected": dict(expected), "found": found, "wrong": wrong}
    if options.json:
        configuration = {name: getattr(options, name) for name in ("events", "answers", "kills", "seed")} | {
            "clients": CLIENTS,
            "engine": "simulated",
            **log_settings,
        }
        write_record(options.json, "exactly_once", configuration, figures, ("ray", "pyarrow", "duckdb"))
    killed = ", ".join(f"{count} {name}" for name, count in tally.kills.items())
    title = (
        f"{tally.acknowledged} events, {tally.sent} requests: {tally.repeated} sent again although acknowledged, "
        f"{tally.failed_tries} tries failed, killed {killed} (simulated engine)"
    )
    table = Table(title=title)
    names = ("feedback", "joined", "thumbs", "approved", "generations")
    for column in ("reader", *names):
        table.add_column(column, justify="left" if column == "reader" else "right")
    for reader, counts in {"expected": expected, **found}.items():
        table.add_row(reader, *(str(counts[name]) if name in counts else "-" for name in names))
    Console(width=110).print(table)
    for text in wrong:
        print(f"wrong: {text}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
