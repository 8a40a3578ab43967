"""API keys: who calls. Only their SHA-256 is kept, and compared in constant time.

``python -m deployments.ingress.auth TENANT [PRIORITY]`` prints a new key, once, and the line for the key file.
"""

import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from deployments.ingress.priority import DEFAULT_PRIORITY, PRIORITIES, Priority
from graph.errors import ConfigurationError, PermissionDenied, Unauthenticated

PUBLIC_TENANT = "public"
_LINE = re.compile(r"^(?P<tenant>[A-Za-z0-9_.-]{1,64})\s+(?P<digest>[0-9a-f]{64})(?:\s+(?P<priority>\S+))?$")


class Identity(NamedTuple):
    """Whose key it is, and which class its requests wait in."""

    tenant: str
    priority: Priority


class KeyRing:
    """The keys of a file; empty when keys are not required.

    Args:
        tenants_by_digest: Tenant by the SHA-256 of its key, in hex; None: everyone is the public tenant.
        admin_tenants: Who may read what concerns all tenants.
        priorities_by_digest: Of the keys that have another than the default.
    """

    def __init__(
        self,
        tenants_by_digest: dict[str, str] | None,
        admin_tenants: Collection[str] = (),
        priorities_by_digest: Mapping[str, Priority] | None = None,
    ) -> None:
        self._tenants = tenants_by_digest
        self._admins = frozenset(admin_tenants)
        self._priorities = dict(priorities_by_digest or {})

    @classmethod
    def load(cls, path: Path | None, admin_tenants: Collection[str] = ()) -> "KeyRing":
        """Reads ``path``; None lets everyone in as the public tenant.

        Raises:
            ConfigurationError: The file is missing, empty, or has a line of another form; an admin has no key.
        """
        if path is None:
            if admin_tenants:
                raise ConfigurationError("auth.admin_tenants is set but auth.keys_file is not; set both, or neither")
            return cls(None)
        try:
            lines = path.read_text().splitlines()
        except OSError as error:
            raise ConfigurationError(f"auth.keys_file: {path} cannot be read ({error.strerror})") from None
        tenants: dict[str, str] = {}
        priorities: dict[str, Priority] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            found = _LINE.match(line.strip())
            if found is None:
                raise ConfigurationError(
                    f"{path}:{number}: expected 'tenant sha256-of-the-key', and a priority if you like; make one with "
                    "python -m deployments.ingress.auth TENANT [PRIORITY]"
                )
            tenants[found["digest"]] = found["tenant"]
            try:
                priorities[found["digest"]] = _priority(found["priority"])
            except ValueError as error:
                raise ConfigurationError(f"{path}:{number}: {error}") from None
        if not tenants:
            raise ConfigurationError(f"{path} holds no key; remove auth.keys_file to serve without keys")
        for admin in admin_tenants:
            if admin not in tenants.values():
                raise ConfigurationError(
                    f"auth.admin_tenants names {admin!r}, which has no key in {path}; add one, or remove the name"
                )
        return cls(tenants, admin_tenants, priorities)

    @property
    def required(self) -> bool:
        return self._tenants is not None

    def tenant_of(self, authorization: str | None) -> str:
        """The tenant of an ``Authorization`` header; raises as `identify` does."""
        return self.identify(authorization).tenant

    def identify(self, authorization: str | None) -> Identity:
        """Whose an ``Authorization`` header is.

        Raises:
            Unauthenticated: Keys are required and this is none of them.
        """
        if self._tenants is None:
            return Identity(PUBLIC_TENANT, DEFAULT_PRIORITY)
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Unauthenticated("No API key was sent; send 'Authorization: Bearer YOUR_KEY'.")
        digest = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).hexdigest()
        tenant = None
        for known, name in self._tenants.items():
            # Every key is compared, so that the time tells nothing about which came near.
            if hmac.compare_digest(known, digest):
                tenant = name
        if tenant is None:
            raise Unauthenticated("The API key is not known; check it, or ask for a new one.")
        return Identity(tenant, self._priorities.get(digest, DEFAULT_PRIORITY))

    def sees_all(self, tenant: str) -> bool:
        """Whether ``tenant`` is shown what concerns all tenants: an admin, or anybody where there is but one."""
        return self._tenants is None or tenant in self._admins

    def check_admin(self, tenant: str, client_host: str | None) -> None:
        """Lets only those pass who may read what concerns all tenants.

        Args:
            client_host: The address that the request came from. Without keys it decides: who is on this machine may.

        Raises:
            PermissionDenied: Anybody else.
        """
        if self._tenants is None:
            if not _is_loopback(client_host):
                raise PermissionDenied(
                    "Without API keys only callers on this machine may read this; set auth.keys_file and "
                    "auth.admin_tenants to open it to others."
                )
        elif tenant not in self._admins:
            raise PermissionDenied(
                f"The tenant {tenant!r} is no admin; use the key of one, or add it to auth.admin_tenants."
            )


def bearer_of_basic(authorization: str | None) -> str | None:
    """``Basic`` credentials, whose password is the API key, as ``Bearer``; any other header as it is."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return authorization
    try:
        pair = base64.b64decode(encoded.strip(), validate=True).decode()
    except ValueError:
        return "Bearer "
    return f"Bearer {pair.partition(':')[2]}"


def _priority(text: str | None) -> Priority:
    """The class that a line of the key file names; ValueError: there is none of this name."""
    if text is None:
        return DEFAULT_PRIORITY
    for priority in PRIORITIES:
        if text == priority:
            return priority
    known = ", ".join(PRIORITIES)
    raise ValueError(f"the priority is {text[:40]!r}; it must be one of: {known}, or left out ({DEFAULT_PRIORITY})")


def _is_loopback(host: str | None) -> bool:
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def main(argv: list[str]) -> int:
    is_usable = 1 <= len(argv) <= 2 and re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", argv[0]) is not None
    if not is_usable or not set(argv[1:]) <= set(PRIORITIES):
        arguments = f"TENANT [{'|'.join(PRIORITIES)}]"
        print(
            f"usage: python -m deployments.ingress.auth {arguments}   (TENANT: letters, digits, _ . -)", file=sys.stderr
        )
        return 2
    key = "rk-" + secrets.token_urlsafe(32)
    print(f"key, shown once:      {key}", file=sys.stderr)
    print(" ".join([argv[0], hashlib.sha256(key.encode()).hexdigest(), *argv[1:]]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
