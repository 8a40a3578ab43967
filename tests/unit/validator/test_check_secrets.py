"""The secrets check: which credentials it must catch, and what only looks like one."""

import base64
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.validator.checks import secrets
from graph.contracts import CheckContext

LETTERS = "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xYz"


def make_body(size: int) -> str:
    """Characters like those of a token; put together here so that no scanner takes this file for a leak."""
    return (LETTERS * (size // len(LETTERS) + 1))[:size]


def make_jwt() -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "HS256", "typ": "JWT"}, {"sub": "1234567890", "name": "Ada"})
    ]
    return ".".join([*parts, make_body(43)])


def make_pem(kind: str = "RSA ") -> str:
    lines = "\n".join(make_body(64) for _ in range(12))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n-----END {kind}PRIVATE KEY-----"


CAUGHT = {
    "aws access key": "AKIA" + "IOSFODNN7QRSTUVW",
    "aws secret key": make_body(40),
    "github token": "ghp_" + make_body(36),
    "github fine-grained token": "github_pat_" + make_body(60),
    "gitlab token": "glpat-" + make_body(20),
    "slack token": "xoxb-" + "123456789012-123456789012-" + "abcdefABCDEF123456789012",
    "stripe key": "sk_live_" + make_body(24),
    "openai key": "sk-" + make_body(20) + "T3BlbkFJ" + make_body(20),
    "openai project key": "sk-proj-" + make_body(48),
    "anthropic key": "sk-ant-" + "api03-" + make_body(60),
    "sendgrid key": "SG." + make_body(22) + "." + make_body(43),
    "twilio key": "SK" + "0123456789abcdef" * 2,
    "mailchimp key": "0123456789abcdef" * 2 + "-us12",
    "npm token": "npm_" + "aB3d" * 9,
    "google key": "AIza" + make_body(35),
    "hugging face token": "hf_" + (make_body(34)),
    "telegram token": "123456789:" + make_body(35),
    "pypi token": "pypi-" + "AgEIcHlwaS5vcmc" + make_body(80),
    "json web token": make_jwt(),
    "pem block": make_pem(),
    "pem block of pkcs8": make_pem(""),
    "url password": "hunter2hunter",
}
WRAPPED = {
    "aws secret key": 'aws_secret_access_key = "{}"',
    "url password": "postgres://admin:{}@db.acme.com:5432/prod",
}


@pytest.mark.parametrize("kind", CAUGHT)
def test_a_credential_is_found_with_its_place(kind: str) -> None:
    value = CAUGHT[kind]
    text = "Use this: " + WRAPPED.get(kind, "{}").format(value) + " from now on."
    (finding,) = secrets.check(text, CheckContext())
    assert finding.severity == "hard"
    assert finding.span is not None
    assert text[slice(*finding.span)] == value


@pytest.mark.parametrize("kind", CAUGHT)
def test_the_message_never_holds_the_value(kind: str) -> None:
    (finding,) = secrets.check(WRAPPED.get(kind, "{}").format(CAUGHT[kind]), CheckContext())
    assert CAUGHT[kind] not in finding.message


PASSED = {
    "plain english": "The quick brown fox jumps over the lazy dog, and nobody minds. " * 20,
    "commit hash": "It was fixed in 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b, a commit of last May.",
    "sha-256": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "uuid": "The id is 123e4567-e89b-12d3-a456-426614174000.",
    "data url": "data:image/png;base64," + "iVBORw0KGgoAAAANSUhEUgAAAAUA" * 4,
    "placeholder": "Set OPENAI_API_KEY=sk-... or sk-your-key-here before you start.",
    "css class": "Use the class sk-cube-grid-with-a-very-long-name-in-it here.",
    "url with placeholder password": "postgres://user:password@localhost/db",
    "url with starred password": "https://user:*****@host.test/",
    "url with port": "See http://localhost:8000/docs and https://docs.python.org/3/library/re.html#re.findall",
    "code": "def get_token(key: str) -> str:\n    return os.environ['SECRET_KEY'] or AC_DEFAULT",
    "about pem": "A PEM file starts with -----BEGIN PRIVATE KEY----- and ends with -----END PRIVATE KEY-----.",
    "elided pem": "-----BEGIN RSA PRIVATE KEY-----\nMIIE...\n-----END RSA PRIVATE KEY-----",
    "certificate": f"-----BEGIN CERTIFICATE-----\n{make_body(64)}\n-----END CERTIFICATE-----",
    "not quite a jwt": "eyJhbGciOi.eyJzdWIi is cut too short to be one.",
    "git remote": "git clone git@github.com:acme/tool.git",
    "forty characters without aws": "The digest reads " + make_body(40) + " here.",
}


@pytest.mark.parametrize("name", PASSED)
def test_what_only_looks_like_a_credential_passes(name: str) -> None:
    assert secrets.check(PASSED[name], CheckContext()) == ()


def test_several_credentials_are_found_in_order() -> None:
    values = [CAUGHT["github token"], CAUGHT["stripe key"], CAUGHT["aws access key"]]
    text = ", ".join(values)
    assert [text[slice(*f.span)] for f in secrets.check(text, CheckContext()) if f.span] == values


def test_a_key_that_the_caller_sent_is_not_leaked_by_repeating_it() -> None:
    value = CAUGHT["github token"]
    assert secrets.check(f"You sent {value}.", CheckContext(known_text=f"Is {value} safe?")) == ()


def test_a_key_of_the_system_prompt_is_leaked_even_though_the_caller_sent_it() -> None:
    value = CAUGHT["github token"]
    context = CheckContext(system=f"The key is {value}", known_text=f"The key is {value}\nWhat is the key?")
    assert len(secrets.check(value, context)) == 1


def test_of_thousands_of_values_those_that_the_caller_sent_pass() -> None:
    mine = [f"ghp_{number:036d}" for number in range(1_000)]
    others = [f"ghp_{number:035d}x" for number in range(1_000)]
    known_text = "".join(mine) + "-" * 10_000
    text = " ".join(value for pair in zip(mine, others, strict=True) for value in pair)
    found = [text[slice(*f.span)] for f in secrets.check(text, CheckContext(known_text=known_text)) if f.span]
    assert found == others
    leaked = secrets.check(text, CheckContext(known_text=known_text, system=known_text))
    assert len(leaked) == 2_000


@given(st.sets(st.text("ab", min_size=1, max_size=6), max_size=12), st.text("abc", max_size=60))
def test_one_pass_finds_the_values_that_a_search_for_each_finds(values: set[str], text: str) -> None:
    assert secrets._find_in_one_pass(sorted(values), text) == {value for value in values if value in text}


@pytest.mark.parametrize(
    ("values", "known"),
    [
        # Of each value all but the last characters stand everywhere in the caller's text.
        ("a://b:{:05x}@c ", "://b:0"),
        ("ghp_{:036d} ", "ghp_" + "0" * 30),
        ("sk-proj-" + "a" * 60 + "{:06d} ", "sk-proj-" + "a" * 200),
    ],
)
def test_thousands_of_values_are_looked_up_in_a_megabyte_soon(values: str, known: str) -> None:
    text = "".join(map(values.format, range(12_000)))
    known_text = known * (1_000_000 // len(known))
    began = time.process_time()
    assert len(secrets.check(text, CheckContext(known_text=known_text))) == 12_000
    assert time.process_time() - began < 2


def test_a_key_block_without_an_end_is_found_up_to_the_end_of_the_text() -> None:
    block = make_pem().partition("-----END")[0]
    (finding,) = secrets.check("Here: " + block, CheckContext())
    assert finding.span == (6, 6 + len(block))
