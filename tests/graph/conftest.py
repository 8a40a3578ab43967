"""One local Ray cluster for all graph tests, with the shipped configuration on a simulated engine."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster import deploy, local_cluster, shipped_config, wait_until_ready

KEYS = {"acme": "rk-acme-key", "umbra": "rk-umbra-key"}
"""API keys by tenant; the tests are acme unless they say otherwise."""
SCRIPT = {
    "count slowly": {"text": "one two three four five six seven eight nine ten", "hang_after_tokens": 4},
    "hang at once": {"text": "never", "hang_after_tokens": 0},
    "die early": {"text": "never", "fail_after_tokens": 0},
    "die late": {"text": "one two three four five six seven eight nine ten", "fail_after_tokens": 6},
    "long story": "Once there was a river that ran to the sea. "
    + " ".join(f"On day {n} it passed town number {n * 7} and left it behind." for n in range(120)),
}


@pytest.fixture(scope="package")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="package")
def config(data_dir: Path) -> dict[str, Any]:
    keys = data_dir / "keys"
    keys.write_text("".join(f"{tenant} {hashlib.sha256(key.encode()).hexdigest()}\n" for tenant, key in KEYS.items()))
    return shipped_config(
        engine={"kind": "simulated", "simulated": {"first_token_s": 0.01, "token_s": 0.002, "script": SCRIPT}},
        auth={"keys_file": str(keys), "admin_tenants": ["acme"]},
        data_dir=str(data_dir),
    )


@pytest.fixture(scope="package")
def url(config: dict[str, Any]) -> Iterator[str]:
    with local_cluster() as port:
        deploy(config)
        address = f"http://127.0.0.1:{port}"
        wait_until_ready(address)
        yield address


@pytest.fixture
def redeploy(config: dict[str, Any], url: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Deploys another configuration in the place of the shared one; afterwards it is as it was."""
    yield deploy
    deploy(config)


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60, trust_env=False, headers=key_of("acme")) as made:
        yield made


def key_of(tenant: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[tenant]}"}
