"""The feedback token: says, signed, which answer feedback speaks of. Checked without any storage access.

    v1.PAYLOAD.SIGNATURE
    PAYLOAD    base64url of a JSON list: key id, generation, tenant, model, adapter, arm, controls hash, expiry
    SIGNATURE  base64url of HMAC-SHA256

The signature covers the text before the second dot. It is compared as text, so that one token has one
spelling. Readable by whoever holds it, so nothing secret goes in; safe in a browser. Keys rotate by their id:
sign with the new one, verify with both until the old tokens have expired. The ingress signs and verifies. The same
key, for another purpose, makes the pseudonyms of raters.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from graph.errors import ConfigurationError, InvalidRequest

MAX_TOKEN_CHARS = 2048
"""Bounds the work done before the signature is known to be good."""
KEY_BYTES = 32
_VERSION = "v1"
# Keeps a signature made for this purpose from being good for any other use of the same key.
_PURPOSE = b"rheostat feedback token\n"


_RATER_PURPOSE = b"rheostat rater\n"


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """What is known of the answer that feedback speaks of: from its token, or from its row in the log."""

    generation_id: str
    tenant: str
    model: str | None
    adapter: str | None
    arm: str | None
    controls_hash: str | None


@dataclass(frozen=True, slots=True)
class TokenClaims(AnswerFacts):
    """What the token says of the answer. Made by the ingress, never by the client."""

    expires_at: int
    """Seconds since 1970 UTC; the first second at which the token is refused."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A secret of 32 bytes and the name under which verifiers find it."""

    key_id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"SigningKey(key_id={self.key_id!r}, secret=...)"


def sign(claims: TokenClaims, key: SigningKey) -> str:
    """Return the token of these claims; the same claims and key give the same token.

    Raises:
        ValueError: The token would be over `MAX_TOKEN_CHARS`.
    """
    fields = [
        key.key_id,
        claims.generation_id,
        claims.tenant,
        claims.model,
        claims.adapter,
        claims.arm,
        claims.controls_hash,
        claims.expires_at,
    ]
    payload = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    signed = f"{_VERSION}.{_to_base64(payload)}"
    token = f"{signed}.{_signature(signed, key.secret)}"
    if len(token) > MAX_TOKEN_CHARS:
        raise ValueError(f"the token is {len(token)} characters; at most {MAX_TOKEN_CHARS}: shorten the ids")
    return token


def verify(token: str, keys: Mapping[str, bytes], now_s: float) -> TokenClaims:
    """Return what the token says, if we signed it and it has not expired. Takes microseconds.

    Args:
        token: From the client; anything.
        keys: Secrets by key id.
        now_s: Seconds since 1970 UTC.

    Raises:
        InvalidRequest: ``invalid_feedback_token`` or ``expired_feedback_token``. Nothing else, whatever the
            token is.
    """
    if len(token) > MAX_TOKEN_CHARS or not token.isascii():
        raise _invalid()
    signed, _, signature = token.rpartition(".")
    version, _, encoded = signed.partition(".")
    if version != _VERSION:
        raise _invalid()
    try:
        fields = json.loads(base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True))
    except (ValueError, RecursionError) as error:
        raise _invalid() from error
    # Only the key id is read before the signature is checked.
    if not isinstance(fields, list) or len(fields) != 8 or not isinstance(fields[0], str):
        raise _invalid()
    secret = keys.get(fields[0])
    if secret is None or not hmac.compare_digest(_signature(signed, secret), signature):
        raise _invalid()
    claims = TokenClaims(*fields[1:])
    if now_s >= claims.expires_at:
        raise InvalidRequest(
            "The feedback_token has expired. Send feedback sooner after the answer, or by generation_id.",
            param="feedback_token",
            code="expired_feedback_token",
        )
    return claims


def hash_rater(rater: str, tenant: str, key: SigningKey) -> str:
    """Return a pseudonym of who rated or asked: 32 hex digits, HMAC-SHA256 under the token key.

    The same person has the same pseudonym in one tenant, another one in the next, and a new one once the key is
    replaced. Without the key nobody can try names.
    """
    said = _RATER_PURPOSE + f"{len(tenant)}:{tenant}{rater}".encode("utf-8", "surrogatepass")
    return hmac.digest(key.secret, said, "sha256").hex()[:32]


def load_or_create_key(path: Path) -> SigningKey:
    """Return the key kept in this file, made (32 random bytes, mode 0600) if there is none; blocks.

    Processes that race all get the same key: it is written whole under another name and then linked, which
    only the first can do.

    Raises:
        ConfigurationError: The file is not 32 bytes, or others than its owner may read or write it.
        OSError: The file cannot be read or made.
    """
    try:
        return _load_key(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, secrets.token_bytes(KEY_BYTES))
        os.fsync(fd)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return _load_key(path)  # another process was first
    finally:
        os.close(fd)
        os.unlink(temporary)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return _load_key(path)


def _load_key(path: Path) -> SigningKey:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
        secret = file.read(KEY_BYTES + 1)
    if mode & 0o077:
        raise ConfigurationError(f"{path} has mode {mode:04o}: others can use the key. Run chmod 600 on it.")
    if len(secret) != KEY_BYTES:
        raise ConfigurationError(f"{path} must hold exactly {KEY_BYTES} bytes. Remove it to have a new key made.")
    return SigningKey(key_id=hashlib.sha256(secret).hexdigest()[:8], secret=secret)


def _signature(signed: str, secret: bytes) -> str:
    return _to_base64(hmac.digest(secret, _PURPOSE + signed.encode("ascii"), "sha256"))


def _to_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _invalid() -> InvalidRequest:
    # One text for every reason: which check failed would only help to forge one.
    return InvalidRequest(
        "The feedback_token is not one that this server signed. Send it exactly as it came with the answer.",
        param="feedback_token",
        code="invalid_feedback_token",
    )
