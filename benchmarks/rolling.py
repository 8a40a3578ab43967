"""Does any request fail while the service is changed under load, in its settings and in its code?

    python -m benchmarks.rolling [--shape production|embedded] [--clients 16] [--proxy haproxy] [--json OUT] [--plot]

Starts the service itself, on a simulated engine that answers at the pace of a GPU, with the numbers of replicas, the
surge and the graceful settings of ``serve_config.yaml`` (production) or as ``configs/serve/cpu.yaml`` has them
(embedded). Half of the clients stream; each asks again as soon as it has its answer, and none of them retries. Under
that load `serve deploy` is run twice:

- settings: a changed ``user_config`` of Ingress and FeedbackLog; no replica may restart;
- code: changed ``args``, one version of the code: every replica has to be replaced.

Failed is what is no whole answer: another status than 200, a broken connection, a stream without its end. The aim is
none. The slowest answer tells how long the change was felt.
"""

import argparse
import asyncio
import copy
import itertools
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.record import quantile, write_record
from benchmarks.service import Running, running
from benchmarks.streams import Answer, Client, run
from graph.settings import PROJECT_ROOT

MODEL = "smollm2-135m-instruct"
ENGINE = {"first_token_s": 0.05, "token_s": 0.02}
"""50 tokens a second; answers have 40 to 120."""
CALM_S = 8.0
"""Before the first change, and after each."""
CHANGE_TIMEOUT_S = 240.0
AFTER_FAILURE_S = 0.2
"""A client that failed asks again so much later, or one that is refused at once would count by the hundred."""
TIME_LIMIT_S = 120.0
"""An answer that takes longer counts as failed."""
ROLLING_KEYS = ("max_surge_percent", "graceful_shutdown_timeout_s", "graceful_shutdown_wait_loop_s")


def production_shape(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By deployment of a Serve configuration: how many replicas it begins with, and how they are replaced."""
    shape: dict[str, dict[str, Any]] = {}
    for deployment in config["applications"][0]["deployments"]:
        fewest = deployment.get("autoscaling_config", {}).get("min_replicas")
        replicas: dict[str, Any] = {"num_replicas": fewest or deployment.get("num_replicas", 1)}
        # Logical cores: the machine has fewer than production.
        resources: dict[str, Any] = {"ray_actor_options": {"num_cpus": 0}}
        shape[deployment["name"]] = (
            replicas | resources | {key: deployment[key] for key in ROLLING_KEYS if key in deployment}
        )
    return shape


def with_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with another value in two deployments' ``user_config``."""
    changed = copy.deepcopy(dict(config))
    values: dict[str, dict[str, Any]] = {"Ingress": {"judge_timeout_s": 11.0}, "FeedbackLog": {"queue_limit": 9_000}}
    for deployment in changed["applications"][0]["deployments"]:
        more = values.get(deployment["name"], {})
        deployment["user_config"] = {**deployment.get("user_config", {}), **more}
    return changed


def with_code(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` as another version of the code, which does the same."""
    changed = copy.deepcopy(dict(config))
    changed["applications"][0]["args"]["cors_origins"] = ["https://rolling.example"]
    return changed


class Serve:
    """The service's own REST, as `serve deploy` uses it; found by the processes of a running service."""

    def __init__(self, service: Running) -> None:
        family = psutil.Process(service.pid).children(recursive=True)
        # Ray's processes have the launcher's environment as it is now.
        environments = [_environment(process) for process in family]
        self._environment = next(each for each in environments if "RAY_AUTH_TOKEN_PATH" in each)
        port = next(
            argument.removeprefix("--port=")
            for process in family
            if any(part.endswith("dashboard/dashboard.py") for part in process.cmdline())
            for argument in process.cmdline()
            if argument.startswith("--port=")
        )
        self._address = f"http://127.0.0.1:{port}"
        token = Path(self._environment["RAY_AUTH_TOKEN_PATH"]).read_text().strip()
        self._headers = {"authorization": f"Bearer {token}"}
        self._path = service.data_dir.parent / "serve.yaml"
        self.config: dict[str, Any] = yaml.safe_load(self._path.read_text())

    def deploy(self, config: Mapping[str, Any]) -> None:
        """Returns when the configuration is accepted.

        Raises:
            RuntimeError: It is not; holds what `serve deploy` said.
        """
        self._path.write_text(yaml.safe_dump(dict(config)))
        done = subprocess.run(
            [sys.executable, "-m", "ray.serve.scripts", "deploy", str(self._path), "--address", self._address],
            capture_output=True,
            text=True,
            check=False,
            cwd=PROJECT_ROOT,
            env={**os.environ, **{name: text for name, text in self._environment.items() if name.startswith("RAY_")}},
        )
        if done.returncode != 0:
            raise RuntimeError(f"serve deploy failed:\n{(done.stdout + done.stderr)[-2000:]}")

    def application(self) -> dict[str, Any]:
        """State of the application, its deployments and their replicas."""
        answer = httpx.get(f"{self._address}/api/serve/applications/", headers=self._headers, trust_env=False)
        found: dict[str, Any] = answer.raise_for_status().json()["applications"]["rheostat"]
        return found


def replicas_of(application: Mapping[str, Any]) -> dict[str, set[str]]:
    """Ids of the replicas by deployment, also of those that start or stop."""
    return {
        name: {replica["replica_id"] for replica in deployment["replicas"]}
        for name, deployment in application["deployments"].items()
    }


def is_settled(application: Mapping[str, Any]) -> bool:
    """Nothing starts, stops or is updated any more."""
    return application["status"] == "RUNNING" and all(
        deployment["status"] == "HEALTHY" and all(replica["state"] == "RUNNING" for replica in deployment["replicas"])
        for deployment in application["deployments"].values()
    )


async def change(serve: Serve, config: Mapping[str, Any]) -> tuple[float, dict[str, set[str]], dict[str, set[str]]]:
    """Deploys ``config``: seconds until all is settled, and the replicas before and after.

    Raises:
        RuntimeError: It is not settled after ``CHANGE_TIMEOUT_S``.
    """
    before = await asyncio.to_thread(serve.application)
    began = time.perf_counter()
    await asyncio.to_thread(serve.deploy, config)
    while True:
        now = await asyncio.to_thread(serve.application)
        # By the time of its deployment: a state that is settled may be that of before.
        if now["last_deployed_time_s"] > before["last_deployed_time_s"] and is_settled(now):
            return time.perf_counter() - began, replicas_of(before), replicas_of(now)
        if time.perf_counter() - began > CHANGE_TIMEOUT_S:
            states = {name: each["status"] for name, each in now["deployments"].items()}
            raise RuntimeError(f"not settled after {CHANGE_TIMEOUT_S:g} s: {now['status']}, {states}")
        await asyncio.sleep(0.5)


async def ask_until(stop: asyncio.Event, url: str, clients: int) -> list[Answer]:
    """So many clients, of whom half stream, until ``stop``; all have their last answer then."""
    numbers = itertools.count()
    answers: list[Answer] = []

    async def one(streams: bool) -> None:
        client = Client(url, TIME_LIMIT_S)
        try:
            while not stop.is_set():
                question = f"Question {next(numbers)}: why is the sky blue?"
                body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": question}]}
                if streams:
                    body |= {"stream": True, "stream_options": {"include_usage": True}}
                answer = await client.ask(body)
                answers.append(answer)
                if answer.failure is not None:
                    await asyncio.sleep(AFTER_FAILURE_S)
        finally:
            client.close()

    await asyncio.gather(*(one(number % 2 == 0) for number in range(clients)))
    return answers


async def measure(service: Running, options: argparse.Namespace) -> dict[str, Any]:
    """Both changes, one after the other, under load."""
    serve = Serve(service)
    stop = asyncio.Event()
    asking = asyncio.create_task(ask_until(stop, service.url, options.clients))
    began = time.perf_counter()
    spans: list[tuple[str, float, float, dict[str, Any]]] = []
    try:
        await asyncio.sleep(CALM_S)
        spans.append(("before", began, time.perf_counter(), {}))
        config: Mapping[str, Any] = serve.config
        for name, changed in (("settings", with_settings), ("code", with_code)):
            since = time.perf_counter()
            config = changed(config)
            took_s, before, after = await change(serve, config)
            replaced = {each: len(after[each] - before[each]) for each in after}
            kept = {each: len(after[each] & before[each]) for each in after}
            await asyncio.sleep(CALM_S)
            more = {"settled_after_s": round(took_s, 1), "replaced": replaced, "kept": kept}
            spans.append((name, since, time.perf_counter(), more))
    finally:
        stop.set()
        answers = await asking
    steps = {name: {**figures_of(answers, begin, end), **more} for name, begin, end, more in spans}
    return {
        "steps": steps,
        "by_second": [
            [
                sum(int(each.ended - began) == second and (each.failure is None) == whole for each in answers)
                for whole in (True, False)
            ]
            for second in range(int(time.perf_counter() - began))
        ],
        "changes_at_s": {name: round(begin - began, 1) for name, begin, _, _ in spans[1:]},
    }


def figures_of(answers: Sequence[Answer], begin: float, end: float) -> dict[str, Any]:
    """Of the requests that were sent from ``begin`` to ``end``: how many, and how they fared."""
    sent = [each for each in answers if begin <= each.began < end]
    whole = [each.ended - each.began for each in sent if each.failure is None]
    failures = Counter(each.failure for each in sent if each.failure is not None)
    return {
        "requests": len(sent),
        "failed": len(sent) - len(whole),
        "failures": dict(failures.most_common(8)),
        "answer_p50_s": round(quantile(whole, 0.5), 2) if whole else None,
        "slowest_s": round(max(whole), 2) if whole else None,
    }


def missed(figures: Mapping[str, Any]) -> list[str]:
    """What is not as it should be, in words."""
    found = []
    for name, step in figures["steps"].items():
        if step["failed"]:
            what = "; ".join(f"{count} x {text}" for text, count in step["failures"].items())
            found.append(f"{name}: {step['failed']} of {step['requests']} requests failed: {what}")
        if not step["requests"]:
            found.append(f"{name}: no request was sent, so nothing is shown")
    if restarted := {name: count for name, count in figures["steps"]["settings"]["replaced"].items() if count}:
        found.append(f"settings: replicas were restarted: {restarted}")
    if stayed := {name: count for name, count in figures["steps"]["code"]["kept"].items() if count}:
        found.append(f"code: replicas were not replaced: {stayed}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rolling", description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=("production", "embedded"), default="production")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--proxy", default="haproxy", help="as of graph.launch")
    parser.add_argument("--json", type=Path, help="write the figures, versions and machine here")
    parser.add_argument("--plot", action="store_true", help="draw docs/pictures/rolling")
    options = parser.parse_args()
    console = Console(stderr=True)
    deployments: dict[str, dict[str, Any]] = {}
    if options.shape == "production":
        deployments = production_shape(yaml.safe_load((PROJECT_ROOT / "serve_config.yaml").read_text()))
    args = {"engine": {"kind": "simulated", "simulated": ENGINE}}
    with console.status("starting the service") as status, running(args, None, options.proxy, None, deployments) as up:
        status.update("changing it under load")
        figures = run(measure(up, options))
    if options.json:
        configuration = {
            "engine": args["engine"],
            "deployments": deployments,
            **{name: getattr(options, name) for name in ("shape", "clients", "proxy")},
        }
        write_record(options.json, "rolling", configuration, figures, ("ray", "httptools", "uvloop"))
    if options.plot:
        from benchmarks.rolling_plots import draw_rolling

        draw_rolling(figures, PROJECT_ROOT / "docs/pictures")
    wrong = missed(figures)
    for text in wrong:
        print(f"missed: {text}", file=sys.stderr)
    Console(width=140).print(_table(figures, options))
    return 1 if wrong else 0


def _table(figures: Mapping[str, Any], options: argparse.Namespace) -> Table:
    title = f"rolling change under {options.clients} clients, {options.shape} shape, {options.proxy} (simulated engine)"
    table = Table(title=title)
    for column in ("change", "requests", "failed", "answer p50 s", "slowest s", "settled after s", "replicas replaced"):
        table.add_column(column, justify="left" if column == "change" else "right")
    for name, step in figures["steps"].items():
        replaced = sum(step["replaced"].values()) if "replaced" in step else "-"
        keys = ("requests", "failed", "answer_p50_s", "slowest_s", "settled_after_s")
        table.add_row(name, *(str(step.get(key, "-")) for key in keys), str(replaced))
    return table


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


if __name__ == "__main__":
    sys.exit(main())
