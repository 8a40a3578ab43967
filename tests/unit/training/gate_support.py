"""Stands in for the running service where tests ask both arms."""

import asyncio
import hashlib
import itertools
import json

import httpx

from training.evaluate import AskOptions, ServiceClient
from training.held_out import HeldOutPrompt

ADAPTER = "a" * 64
ADAPTERS = {"champion": None, "challenger": ADAPTER}


def make_prompts(count, controls=None):
    return tuple(
        HeldOutPrompt(
            hashlib.sha256(str(n).encode()).hexdigest()[:32],
            ({"role": "user", "content": f"Why {n}?"},),
            controls or {},
        )
        for n in range(count)
    )


def make_body(
    arm="champion",
    adapter=None,
    text="So it is.",
    outcome="pass",
    findings=(),
    attempts=1,
    refusal=None,
    tokens=5,
    **quality,
):
    return {
        "choices": [{"message": {"role": "assistant", "content": text, "refusal": refusal}, "finish_reason": "stop"}],
        "usage": {"completion_tokens": tokens},
        "rheostat": {
            "arm": arm,
            "adapter": adapter,
            "attempts": attempts,
            "discarded_tokens": 0,
            "quality": {"outcome": outcome, "score": 0.9, "scores": {}, "findings": list(findings)} | quality,
        },
    }


def finding(check, action="note"):
    return {"check": check, "severity": "soft", "action": action, "span": None, "message": "seen"}


class StandIn:
    """Answers as a service would; ``answer`` may be replaced."""

    def __init__(self):
        self.asked = []
        self.running = self.most_running = 0
        self.waits = []
        self.now = itertools.count()

    async def answer(self, arm, body):
        return httpx.Response(200, json=make_body(arm, ADAPTERS[arm]))

    async def handle(self, request):
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "small"}]})
        body, arm = json.loads(request.content), request.headers["x-rheostat-arm"]
        self.asked.append((arm, body))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        return await self.answer(arm, body)

    async def sleep(self, seconds):
        self.waits.append(seconds)

    def client(self, options):
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.handle), base_url="http://service")
        return ServiceClient(http, options, lambda: float(next(self.now)), self.sleep)

    async def ask(self, prompts, on_answer=lambda done, total: None, **options):
        return await self.client(AskOptions(**options)).ask_both(prompts, ADAPTERS, on_answer)
