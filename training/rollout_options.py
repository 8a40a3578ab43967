"""Options and answers that status, promote, rollback and canary share, and their way over HTTP. No command itself."""

import argparse
import getpass
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from deployments.rollout.operations import Done, Operations
from graph.errors import Conflict, InternalError, InvalidRequest, NotFound, RheostatError, Unavailable

DEFAULT_REGISTRY = Path("data/registry")
_ERRORS = {400: InvalidRequest, 404: NotFound, 409: Conflict, 503: Unavailable}


def add_place(parser: argparse.ArgumentParser) -> None:
    """Where the rollout is: a folder, or a service."""
    parser.add_argument("--registry", type=Path, default=DEFAULT_REGISTRY, metavar="DIR", help="the registry's folder")
    parser.add_argument("--url", default=None, help="do it over HTTP instead, such as http://127.0.0.1:8000")
    parser.add_argument("--key-file", type=Path, default=None, metavar="FILE", help="an admin's API key, with --url")


def add_change(parser: argparse.ArgumentParser) -> None:
    """What every change may say."""
    add_place(parser)
    parser.add_argument("--reason", default="", help="for the history")
    parser.add_argument(
        "--expected-version", type=int, default=None, metavar="N", help="refuse if the aliases have changed since this"
    )
    parser.add_argument("--timeout", type=float, default=30.0, metavar="S", help="how long to wait for all replicas")


def operations_of(options: argparse.Namespace) -> Operations:
    """The registry's folder, to be changed by whoever is logged in."""
    if options.timeout < 0:
        raise InvalidRequest(f"--timeout is {options.timeout}; it must be 0 or more.", param="timeout")
    if not options.registry.is_dir():
        raise InvalidRequest(
            f"There is no registry at {options.registry}; give its folder by --registry, or the service by --url.",
            param="registry",
        )
    return Operations(options.registry, _user(), options.timeout)


def change(
    options: argparse.Namespace,
    messages: Console,
    here: Callable[[Operations], Done],
    path: str,
    body: Mapping[str, Any],
) -> None:
    """Do it in the folder or over HTTP; print the JSON, and a line for people.

    Raises:
        Unavailable: It is done, and not every replica serves it within ``--timeout``.
    """
    if options.url is None:
        told = here(operations_of(options)).as_json()
    else:
        said = {"expected_version": options.expected_version, "reason": options.reason}
        said["timeout_s"] = min(options.timeout, 60.0)
        told = ask(options, path, {**said, **body})
    print(json.dumps(told), flush=True)
    if not told["agreed"]:
        raise Unavailable(
            f"It is done (version {told['version']}), but after {told['seconds']:g} s not every replica serves it: "
            f"{'; '.join(told['waiting'])}. They follow by themselves; see: python -m training status"
        )
    served = f"all {told['replicas']} replicas serve it" if told["replicas"] else "no service is running"
    names = ", ".join(f"{name} {short(told[name])}" for name in ("champion", "challenger", "previous"))
    messages.print(
        f"{told['action']}: version {told['version']}, {names}, share {told['share']:g}; {served} "
        f"after {told['seconds']:.2f} s",
        markup=False,
        highlight=False,
    )


def ask(options: argparse.Namespace, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what the service at ``--url`` answers.

    Raises:
        RheostatError: It refuses, or is not there.
    """
    url = f"{options.url.rstrip('/')}{path}"
    if not url.startswith(("http://", "https://")):
        raise InvalidRequest(f"--url is {options.url!r}; it must begin with http:// or https://.", param="url")
    headers = {"content-type": "application/json"}
    if options.key_file is not None:
        headers["authorization"] = f"Bearer {options.key_file.read_text().strip()}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)
    try:
        # Beyond what the service itself waits.
        with urllib.request.urlopen(request, timeout=90) as response:
            answer: dict[str, Any] = json.loads(response.read())
            return answer
    except urllib.error.HTTPError as error:
        raise _refusal(error) from None
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        raise Unavailable(f"{url} does not answer ({error}); is the service running?") from None


def short(adapter: str | None) -> str:
    """An adapter's name as far as people need it."""
    return "none" if adapter is None else adapter[:12]


def _refusal(error: urllib.error.HTTPError) -> RheostatError:
    try:
        message = json.loads(error.read())["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = f"The service answered {error.code}."
    return _ERRORS.get(error.code, InternalError)(message)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
