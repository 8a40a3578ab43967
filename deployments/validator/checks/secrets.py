"""Finds credentials: the named tokens of detect-secrets, JWTs, AWS secret keys and PEM private key blocks.

Each value is judged by itself, from the place where it starts and at most MAX_TOKEN characters on, so that a
stream cut anywhere gives the same verdict, and one endless run costs linear time. That is why detect-secrets'
own scan is not called: its settings are global, its entropy plugins take plain English for secrets, its
GitHub plugin yields "ghp" for the value, and its JWT and OpenAI patterns are quadratic on one long run.
Its plugins' patterns are used as they are; the two quadratic ones are restated here with bounds.
"""

import base64
import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Set
from itertools import chain

from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector
from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector
from detect_secrets.plugins.twilio import TwilioKeyDetector

from deployments.validator.thresholds import DEFAULTS, Thresholds
from deployments.validator.watch import LEFT_CONTEXT, Hit, Sight, drop_overlaps
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["LOOK_BACK", "MAX_TOKEN", "NAME", "SEVERITY", "check", "find_run_start", "watch"]

NAME = "secrets"
SEVERITY: Severity = "hard"
MAX_TOKEN = 512
"""Longest single-word value, in characters; real tokens are under 250."""
_MAX_JWT_HEADER = 2_000
_MAX_JWT_REST = 6_000
MAX_PEM = 16_384
"""Longest key block; an RSA-16384 key takes 12.7k characters."""
LOOK_BACK = MAX_PEM + MAX_TOKEN
"""A key block that is taken out, and the word in progress that its last line may be."""

_PLUGINS = (
    AzureStorageKeyDetector,
    DiscordBotTokenDetector,
    GitHubTokenDetector,
    GitLabTokenDetector,
    MailchimpDetector,
    PypiTokenDetector,
    SendGridDetector,
    SlackDetector,
    SquareOAuthDetector,
    StripeDetector,
    TelegramBotTokenDetector,
    TwilioKeyDetector,
)
_TOKENS: tuple[tuple[str, re.Pattern[str]], ...] = (
    # The plugin's second pattern reaches back for the word 'aws': _find_aws_keys does that, value by value.
    ("AWS access key", AWSKeyDetector.denylist[0]),
    *((plugin.secret_type, pattern) for plugin in _PLUGINS for pattern in plugin.denylist),
    ("GitHub Token", re.compile(r"github_pat_[A-Za-z0-9_]{36,}")),
    ("OpenAI Token", re.compile(r"sk-[A-Za-z0-9_-]{0,160}T3BlbkFJ[A-Za-z0-9_-]{20,}")),
    (
        "OpenAI Token",
        re.compile(r"sk-(?:proj-|svcacct-|admin-)[A-Za-z0-9_-]{40,}|sk-[A-Za-z0-9]{48}(?![A-Za-z0-9])"),
    ),
    ("Anthropic Token", re.compile(r"sk-ant-[a-z0-9]{1,10}-[A-Za-z0-9_-]{40,}")),
    ("Google API Key", re.compile(r"AIza[A-Za-z0-9_-]{35}")),
    ("npm Token", re.compile(r"npm_[A-Za-z0-9]{36}")),
    ("Hugging Face Token", re.compile(r"hf_[A-Za-z0-9]{34}")),
)


def _inline(pattern: re.Pattern[str]) -> str:
    """The pattern as a part of another, with the flags that the plugins use."""
    ignores_case, is_verbose = pattern.flags & re.IGNORECASE, pattern.flags & re.VERBOSE
    return f"(?{'i' if ignores_case else ''}{'x' if is_verbose else ''}:{pattern.pattern})"


# Whether there is one, at once: thirty patterns one by one, at each of many starts, take ten times as long.
_ANY_TOKEN = re.compile("|".join(_inline(pattern) for _, pattern in _TOKENS))
_BASIC_AUTH: re.Pattern[str] = BasicAuthDetector.denylist[0]

# One pass over the text finds where a token may start; the patterns above run only there. It is a lookahead, so
# that no start can hide inside another. A start stands at the edge of a word: inside a long base64 blob any
# prefix turns up by chance.
_START = re.compile(
    r"(?<![A-Za-z0-9])(?=A3T|ABIA|ACCA|AKIA|ASIA|AccountKey=|AIza|AC[a-z0-9]{32}|SK[a-z0-9]{32}|SG\.|sk-|sq0csp-"
    r"|[rs]k_live_|gh[pousr]_|github_pat_|gl[a-z]{2,5}-|GR1348941|xox[abposr]-|https://hooks\.slack|pypi-|npm_|hf_"
    r"|[0-9]{8,10}:|[0-9a-z]{32}-us|[MNO][A-Za-z0-9_-]{23,25}\.)"
)
_JWT_HEADER = re.compile(rf"(?<![A-Za-z0-9_-])(eyJ[A-Za-z0-9_-]{{8,{_MAX_JWT_HEADER}}})\.(?=[A-Za-z0-9_-])")
_JWT_REST = re.compile(rf"[A-Za-z0-9_.-]{{1,{_MAX_JWT_REST}}}")
_JWT_OPEN = re.compile(rf"eyJ[A-Za-z0-9_-]{{0,{_MAX_JWT_HEADER}}}(?:\.[A-Za-z0-9_.-]{{0,{_MAX_JWT_REST}}})?\Z")
_JWT_START = re.compile(r"(?<![A-Za-z0-9_-])eyJ")
_AWS_KEY = re.compile(r"(?<![A-Za-z0-9/+])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")
_AWS_BEFORE = re.compile(r"aws.{0,20}?(?:key|pwd|pw|password|pass|token|secret).{0,20}\Z", re.IGNORECASE)
_PEM_HEADER = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_PEM_HEADER_OPEN = re.compile(r"-----BEGIN[A-Z0-9 ]{0,70}-{0,5}\Z")
_PEM_FOOTER = re.compile(r"-----END [A-Z0-9 ]{1,64}-----")
_PEM_BODY = re.compile(r"[A-Za-z0-9+/]{32}")
_PEM_BODY_WITHIN = 320
"""Key material starts so soon after its header (there may be Proc-Type lines); else it is a text about PEM."""
_PLACEHOLDERS = frozenset(
    ["", "password", "passwd", "pass", "pwd", "secret", "token", "changeme", "your_password", "yourpassword"]
)
_MAX_SEARCHED = 10_000_000
"""Characters of the caller's text that the search for one value after the other may go through: a few milliseconds."""
_NOT_RUN = re.compile(r"(?s).*[^!-~\u00c0-\u024f]")


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Finds every credential in a whole text.

    Returns:
        Hard findings in order of their start; the message begins with the kind of credential and a colon. A
        value that the caller sent is not a finding, unless it stands in the system prompt.
    """
    return watch(text, context, 0, True).findings


def watch(text: str, context: CheckContext, start: int, is_final: bool) -> Sight:
    """As the contract ``Watch`` says; holds the word in progress, an open JWT and an open PEM block."""
    keys, keys_open = _find_pem_blocks(text, start)
    open_from = min(keys_open, find_run_start(text, start), _find_open_jwt(text, start))
    if is_final:
        open_from = len(text)
    found = chain(_find_tokens(text, start), _find_jwts(text, start), _find_aws_keys(text, start))
    settled = (hit for hit in found if hit.start < open_from)
    hits = [(hit, text[hit.start : hit.end]) for hit in chain(settled, keys)]
    known = _find_known({value for _, value in hits}, context)
    findings = tuple(
        Finding(NAME, SEVERITY, f"{kind}: a credential must not stand in an answer", (begin, end))
        for begin, end, kind in drop_overlaps(hit for hit, value in hits if value not in known)
    )
    return Sight(findings, open_from)


def find_run_start(text: str, start: int) -> int:
    """Where the word in progress at the end of ``text`` begins: at most MAX_TOKEN back, never before ``start``.

    A word is a run of printable ASCII and accented Latin letters; all patterns but JWT and PEM stay inside one.
    """
    begin = max(start, len(text) - MAX_TOKEN)
    match = _NOT_RUN.match(text, begin)
    return match.end() if match else begin


def _find_known(values: Set[str], context: CheckContext) -> Set[str]:
    """The values that the caller sent, and not in the system prompt."""
    sent = _find_inside(values, context.known_text)
    return sent - _find_inside(sent, context.system)


def _find_inside(values: Set[str], text: str) -> Set[str]:
    """The values that stand somewhere in ``text``.

    An answer may have thousands of them and the text a megabyte: more than a few are searched for together.
    """
    if len(values) * len(text) <= _MAX_SEARCHED:
        return {value for value in values if value in text}
    # Key blocks and web tokens, of which an answer has room for few.
    long = {value for value in values if len(value) > MAX_TOKEN and value in text}
    return long | _find_in_one_pass(sorted(value for value in values if len(value) <= MAX_TOKEN), text)


def _find_in_one_pass(values: list[str], text: str) -> set[str]:
    """As above; ``values`` are sorted, so that those which stand at a place are near what is there.

    What stands at a place sorts after a value with which it begins, and all values between the two begin with that
    value. So only the last one before it, and the values with which that one begins, need to be compared.
    """
    if not values:
        return set()
    begins_with: list[int | None] = []  # for each value the longest other one that it begins with
    shorter: list[int] = []
    for number, value in enumerate(values):
        while shorter and not value.startswith(values[shorter[-1]]):
            shorter.pop()
        begins_with.append(shorter[-1] if shorter else None)
        shorter.append(number)
    longest, shortest = max(map(len, values)), min(map(len, values))
    heads = {value[:shortest] for value in values}
    found = set()
    for at in range(len(text) - shortest + 1):
        if text[at : at + shortest] in heads:
            there = text[at : at + longest]
            candidate = bisect_right(values, there) - 1
            last = candidate if candidate >= 0 else None
            while last is not None and not there.startswith(values[last]):
                last = begins_with[last]
            while last is not None and last not in found:
                found.add(last)
                last = begins_with[last]
    return {values[number] for number in found}


def _find_tokens(text: str, start: int) -> Iterator[Hit]:
    for match in _START.finditer(text, start):
        at = match.start()
        if not _ANY_TOKEN.match(text, at, at + MAX_TOKEN):
            continue
        for kind, pattern in _TOKENS:
            token = pattern.match(text, at, at + MAX_TOKEN)
            if token:
                yield Hit(at, token.end(), kind)
                break
    at = text.find("://", start)
    while at >= 0:
        password = _BASIC_AUTH.match(text, at, at + MAX_TOKEN)
        if password and password.group(1).lower().strip("<>*x") not in _PLACEHOLDERS:
            yield Hit(*password.span(1), "password in a URL")
        at = text.find("://", at + 3)


def _find_aws_keys(text: str, start: int) -> Iterator[Hit]:
    if "aws" in text.lower():
        for match in _AWS_KEY.finditer(text, start):
            if _AWS_BEFORE.search(text, max(0, match.start() - LEFT_CONTEXT), match.start()):
                yield Hit(*match.span(), "AWS secret key")


def _find_jwts(text: str, start: int) -> Iterator[Hit]:
    passed = start
    for match in _JWT_HEADER.finditer(text, start):
        if match.start() < passed or not _is_jwt_header(match.group(1)):
            continue
        rest = _JWT_REST.match(text, match.end())
        passed = rest.end() if rest else match.end()
        # A full stop after the token ends the sentence, not the token.
        yield Hit(match.start(), match.start() + len(text[match.start() : passed].rstrip(".")), "JSON web token")


def _is_jwt_header(part: str) -> bool:
    try:
        header = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and ("alg" in header or "typ" in header)


def _find_open_jwt(text: str, start: int) -> int:
    for match in _JWT_START.finditer(text, max(start, len(text) - _MAX_JWT_HEADER - _MAX_JWT_REST - 8)):
        if _JWT_OPEN.match(text, match.start()):
            return match.start()
    return len(text)


def _find_pem_blocks(text: str, start: int) -> tuple[list[Hit], int]:
    """The key blocks, and where the first one begins that is undecided or has not ended."""
    found = []
    open_from = len(text)
    at = text.find("-----BEGIN", start)
    while at >= 0:
        end = at + 10
        header = _PEM_HEADER.match(text, at)
        if header:
            body_until = header.end() + _PEM_BODY_WITHIN
            if _PEM_BODY.search(text, header.end(), body_until):
                footer = _PEM_FOOTER.search(text, header.end(), at + MAX_PEM)
                end = footer.end() if footer else min(len(text), at + MAX_PEM)
                found.append(Hit(at, end, "private key"))
                if not footer and len(text) < at + MAX_PEM:
                    open_from = min(open_from, at)
            elif len(text) < body_until:
                open_from = min(open_from, at)
        elif _PEM_HEADER_OPEN.match(text, at):
            open_from = min(open_from, at)
        at = text.find("-----BEGIN", end)
    return found, open_from
