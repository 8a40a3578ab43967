"""Credentials, made up in the forms of their issuers. No whole one stands in this source."""

import base64
import json
import random
import string
from collections.abc import Callable, Mapping
from typing import NamedTuple

__all__ = ["CREDENTIALS", "Credential", "Made"]

_LETTERS = string.ascii_letters + string.digits
_URL_SAFE = _LETTERS + "-_"
_HEX = "0123456789abcdef"


class Made(NamedTuple):
    """A value with what always stands around it."""

    value: str
    before: str = ""
    after: str = ""


class Credential(NamedTuple):
    """One kind: what people call it, the variable that holds it, how it is made."""

    title: str
    variable: str
    make: Callable[[random.Random], Made]


def _run(rng: random.Random, alphabet: str, count: int) -> str:
    return "".join(rng.choice(alphabet) for _ in range(count))


def _token(prefix: str, alphabet: str, count: int, after: str = "") -> Callable[[random.Random], Made]:
    return lambda rng: Made(prefix + _run(rng, alphabet, count) + after)


def _openai(rng: random.Random) -> Made:
    return Made(f"sk-proj-{_run(rng, _LETTERS, 20)}T3BlbkFJ{_run(rng, _LETTERS, 20)}")


def _slack(rng: random.Random) -> Made:
    numbers = f"{_run(rng, string.digits, 12)}-{_run(rng, string.digits, 12)}"
    return Made(f"xoxb-{numbers}-{_run(rng, _LETTERS, 24)}")


def _slack_webhook(rng: random.Random) -> Made:
    upper = string.ascii_uppercase + string.digits
    path = f"T{_run(rng, upper, 8)}/B{_run(rng, upper, 10)}/{_run(rng, _LETTERS, 24)}"
    return Made(f"https://hooks.slack.com/services/{path}")


def _sendgrid(rng: random.Random) -> Made:
    return Made(f"SG.{_run(rng, _URL_SAFE, 22)}.{_run(rng, _URL_SAFE, 43)}")


def _discord(rng: random.Random) -> Made:
    return Made(f"M{_run(rng, _LETTERS, 23)}.{_run(rng, _LETTERS, 6)}.{_run(rng, _LETTERS, 27)}")


def _telegram(rng: random.Random) -> Made:
    return Made(f"{rng.randint(10**8, 10**10 - 1)}:AA{_run(rng, _LETTERS, 33)}")


def _azure(rng: random.Random) -> Made:
    account = _run(rng, string.ascii_lowercase, 8)
    key = _run(rng, _LETTERS + "+/", 86) + "=="
    before = f"DefaultEndpointsProtocol=https;AccountName={account};"
    return Made(f"AccountKey={key}", before, ";EndpointSuffix=core.windows.net")


def _url_password(rng: random.Random) -> Made:
    host = f"db-{_run(rng, _HEX, 4)}.internal"
    user = rng.choice(["app", "reporting", "admin"])
    return Made(_run(rng, _LETTERS, rng.randint(10, 20)), f"postgres://{user}:", f"@{host}:5432/main")


def _encode(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")


def _jwt(rng: random.Random) -> Made:
    header = _encode({"alg": rng.choice(["HS256", "RS256"]), "typ": "JWT"})
    claims = _encode({"sub": _run(rng, string.digits, 8), "iat": rng.randint(1_600_000_000, 1_800_000_000)})
    return Made(f"{header}.{claims}.{_run(rng, _URL_SAFE[:-2], 43)}")


def _private_key(rng: random.Random) -> Made:
    name = rng.choice(["RSA PRIVATE KEY", "PRIVATE KEY", "OPENSSH PRIVATE KEY", "EC PRIVATE KEY"])
    body = "\n".join(_run(rng, _LETTERS + "+/", 64) for _ in range(rng.randint(3, 12)))
    return Made(f"-----BEGIN {name}-----\n{body}\n-----END {name}-----")


CREDENTIALS: Mapping[str, Credential] = {
    "AWS access key": Credential(
        "AWS access key id", "AWS_ACCESS_KEY_ID", _token("AKIA", string.ascii_uppercase + "234567", 16)
    ),
    "AWS secret key": Credential("AWS secret key", "AWS_SECRET_ACCESS_KEY", _token("", _LETTERS + "+/", 40)),
    "GitHub": Credential("GitHub token", "GITHUB_TOKEN", _token("ghp_", _LETTERS, 36)),
    "GitHub, fine-grained": Credential(
        "GitHub token", "GH_TOKEN", lambda rng: Made(f"github_pat_{_run(rng, _LETTERS, 22)}_{_run(rng, _LETTERS, 59)}")
    ),
    "GitLab": Credential("GitLab token", "GITLAB_TOKEN", _token("glpat-", _LETTERS, 20)),
    "OpenAI": Credential("OpenAI key", "OPENAI_API_KEY", _openai),
    "Anthropic": Credential("Anthropic key", "ANTHROPIC_API_KEY", _token("sk-ant-api03-", _LETTERS, 93, "AA")),
    "Google": Credential("Google API key", "GOOGLE_API_KEY", _token("AIza", _LETTERS, 35)),
    "Hugging Face": Credential("Hugging Face token", "HF_TOKEN", _token("hf_", string.ascii_letters, 34)),
    "npm": Credential("npm token", "NPM_TOKEN", _token("npm_", _LETTERS, 36)),
    "PyPI": Credential("PyPI token", "TWINE_PASSWORD", _token("pypi-AgEIcHlwaS5vcmc", _LETTERS, 120)),
    "Stripe": Credential("Stripe key", "STRIPE_SECRET_KEY", _token("sk_live_", _LETTERS, 24)),
    "Square": Credential("Square secret", "SQUARE_SECRET", _token("sq0csp-", _LETTERS, 43)),
    "Twilio": Credential("Twilio key", "TWILIO_API_KEY", _token("SK", _HEX, 32)),
    "Mailchimp": Credential("Mailchimp key", "MAILCHIMP_API_KEY", _token("", _HEX, 32, "-us14")),
    "SendGrid": Credential("SendGrid key", "SENDGRID_API_KEY", _sendgrid),
    "Slack": Credential("Slack token", "SLACK_BOT_TOKEN", _slack),
    "Slack webhook": Credential("Slack webhook", "SLACK_WEBHOOK_URL", _slack_webhook),
    "Discord": Credential("Discord token", "DISCORD_TOKEN", _discord),
    "Telegram": Credential("Telegram token", "TELEGRAM_TOKEN", _telegram),
    "Azure": Credential("Azure connection string", "AZURE_STORAGE_CONNECTION_STRING", _azure),
    "password in a URL": Credential("connection string", "DATABASE_URL", _url_password),
    "JSON web token": Credential("session token", "SESSION_TOKEN", _jwt),
    "private key": Credential("private key", "PRIVATE_KEY", _private_key),
}
