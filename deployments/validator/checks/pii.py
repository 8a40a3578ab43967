"""Finds personal values: e-mail addresses, payment cards, IBANs, US social security and phone numbers.

Every pattern is backed by the rule of its number: Luhn (ISO/IEC 7812-1), mod 97-10 and the length of each
country (ISO 13616 registry), the SSA's impossible numbers, E.164 lengths. Values that the caller sent, and
those set aside for examples (RFC 2606 domains, 555-01xx), pass. Each value is judged by itself and by a
bounded stretch of text, so that a stream cut anywhere gives the same verdict.
"""

import re
from collections.abc import Callable

from deployments.validator.checks.secrets import find_run_start
from deployments.validator.thresholds import DEFAULTS, Thresholds
from deployments.validator.watch import Hit, Sight, drop_overlaps
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["LOOK_BACK", "NAME", "SEVERITY", "check", "watch"]

NAME = "pii"
SEVERITY: Severity = "hard"
LOOK_BACK = 512
"""A word in progress; a number with its separators takes at most _MAX_NUMBER."""

# Numbers are also written with no-break, narrow and thin spaces, and no-break hyphens.
_SEPARATOR = "[ \u00a0\u2009\u202f\u2010\u2011-]"
_PHONE_SEPARATOR = "[ \u00a0\u2009\u202f\u2010\u2011().\\/-]"
_MAX_NUMBER = 48
"""The longest is a phone number of 15 digits with two separators before each: 45 characters."""

_LOCAL_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.!#$%&'*+/=?^_`{|}~-" + "".join(
    map(chr, range(0xC0, 0x250))
)
_EMAIL_DOMAIN = re.compile(
    r"@((?:[A-Za-z0-9\u00c0-\u024f][A-Za-z0-9\u00c0-\u024f-]{0,62}\.){1,4}[A-Za-z]{2,24})(?![A-Za-z0-9\u00c0-\u024f])"
)
_EXAMPLE_DOMAIN = re.compile(r"(?:^|\.)(?:example\.(?:com|org|net|edu)|test|example|invalid|localhost)$")
_FILE_ENDINGS = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "html", "js", "css", "py", "json", "md"})

_CARD_START = re.compile(r"(?<![0-9A-Za-z])(?<![0-9][.,])[2-6][0-9]{3}")
_CARD_SOLID = re.compile(r"[0-9]{13,19}(?![0-9A-Za-z])")
_CARD_GROUPED = tuple(
    re.compile(pattern.replace("~", _SEPARATOR) + r"(?![0-9A-Za-z])")
    for pattern in (
        r"[0-9]{4}(~)[0-9]{4}\1[0-9]{4}\1[0-9]{4}\1[0-9]{1,3}",
        r"[0-9]{4}(~)[0-9]{4}\1[0-9]{4}\1[0-9]{4}",
        r"[0-9]{4}(~)[0-9]{6}\1[0-9]{4,5}",
    )
)
# Issuer prefixes with the lengths they use: Visa, Mastercard, Amex, Diners, Discover/UnionPay/Maestro, JCB.
_CARD_ISSUERS = tuple(
    (re.compile(prefix), frozenset(lengths))
    for prefix, lengths in (
        (r"4", (13, 16, 19)),
        (r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", (16,)),
        (r"3[47]", (15,)),
        (r"30[0-5]|3[689]", (14, 16)),
        (r"6", (16, 17, 18, 19)),
        (r"35(?:2[89]|[3-8])", (16,)),
    )
)

_IBAN_START = re.compile(r"(?<![0-9A-Za-z])[A-Za-z]{2}[0-9]{2}")
_IBAN_COUNTRIES = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 "
    "EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 "
    "KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 "
    "PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 "
    "UA29 VA22 VG24 XK20 YE30"
)
_IBAN_LENGTHS = {pair[:2]: int(pair[2:]) for pair in _IBAN_COUNTRIES.split()}
_IBAN_GROUP = re.compile(f"{_SEPARATOR}?([0-9A-Za-z]{{1,4}})")

_SSN = re.compile(
    r"(?<![0-9A-Za-z_-])(?!000|666|9)[0-9]{3}(~)(?!00)[0-9]{2}\1(?!0000)[0-9]{4}(?![0-9A-Za-z_-])".replace(
        "~", _SEPARATOR
    )
)
_SSN_WORD = re.compile(r"\bssn\b|social security", re.IGNORECASE)
_SSN_WORD_WITHIN = 48

# NANP numbers have ten digits after the 1, neither area code nor exchange begins with 0 or 1. Others are read as
# far as E.164's fifteen digits allow: where a number ends and the next begins, only its country knows.
_PHONE = re.compile(
    r"(?<![0-9A-Za-z+])\+(?:1~[2-9](?:~[0-9]){2}~[2-9](?:~[0-9]){6}|[2-9](?:~[0-9]){8,14})(?![0-9A-Za-z])".replace(
        "~", _PHONE_SEPARATOR + "{0,2}"
    )
)

_OPEN_NUMBER = re.compile(
    rf"(?:\+[0-9 {_PHONE_SEPARATOR[1:]}*"
    rf"|(?<![0-9A-Za-z])[0-9]{{3,4}}(?:{_SEPARATOR}[0-9]{{1,6}})*{_SEPARATOR}?"
    rf"|(?<![0-9A-Za-z])[A-Za-z]{{2}}[0-9]{{2}}(?:{_SEPARATOR}?[0-9A-Za-z]{{4}})*{_SEPARATOR}?[0-9A-Za-z]{{0,3}})\Z"
)


def check(text: str, context: CheckContext, thresholds: Thresholds = DEFAULTS) -> tuple[Finding, ...]:
    """Finds every personal value in a whole text.

    Returns:
        Hard findings in order of their start; the message begins with the kind of value and a colon.
    """
    return watch(text, context, 0, True).findings


def watch(text: str, context: CheckContext, start: int, is_final: bool) -> Sight:
    """As the contract ``Watch`` says; holds the word in progress and the groups of an unfinished number."""
    open_from = len(text)
    if not is_final:
        number = _OPEN_NUMBER.search(text, max(start, len(text) - _MAX_NUMBER))
        open_from = min(find_run_start(text, start), number.start() if number else len(text))
    hits = (
        Hit(begin, end, kind)
        for kind, find in _FINDERS
        for begin, end in find(text, start)
        if start <= begin < open_from and not _is_known(kind, text[begin:end], context)
    )
    findings = tuple(
        Finding(NAME, SEVERITY, f"{kind}: a personal value that the caller did not send", (begin, end))
        for begin, end, kind in drop_overlaps(hits)
    )
    return Sight(findings, open_from)


def _is_known(kind: str, value: str, context: CheckContext) -> bool:
    if not context.known_text:
        return False
    if kind == "e-mail":
        return value.casefold() in context.known_text.casefold()
    return _squeeze(value) in _squeeze(context.known_text)


def _squeeze(text: str) -> str:
    """Without separators and case, so that a number is known however it was grouped."""
    return re.sub(rf"[\s{_PHONE_SEPARATOR[1:]}", "", text).casefold()


def _find_emails(text: str, start: int) -> list[tuple[int, int]]:
    found = []
    at = text.find("@", start)
    while at >= 0:
        domain = _EMAIL_DOMAIN.match(text, at)
        if domain:
            # RFC 5321 bounds the local part at 64 characters.
            before = text[max(0, at - 64) : at]
            local = before[len(before.rstrip(_LOCAL_CHARACTERS)) :].lstrip(".!#$%&'*+/=?^`{|}~-")
            name = domain.group(1).lower()
            is_address = (
                local
                and not _EXAMPLE_DOMAIN.search(name)
                and name.rpartition(".")[2] not in _FILE_ENDINGS
                and local != "git"  # git@host:path is how repositories are addressed
            )
            if is_address:
                found.append((at - len(local), domain.end()))
        at = text.find("@", at + 1)
    return found


def _find_cards(text: str, start: int) -> list[tuple[int, int]]:
    found = []
    for match in _CARD_START.finditer(text, start):
        for pattern in (_CARD_SOLID, *_CARD_GROUPED):
            card = pattern.match(text, match.start())
            if card and _is_card(re.sub(_SEPARATOR, "", card.group())):
                found.append(card.span())
                break
    return found


def _is_card(digits: str) -> bool:
    issued = any(prefix.match(digits) and len(digits) in lengths for prefix, lengths in _CARD_ISSUERS)
    if not issued:
        return False
    # Luhn: double every second digit from the right, add the digits of the products.
    total = sum(int(digit) for digit in digits[-1::-2])
    total += sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return total % 10 == 0


def _find_ibans(text: str, start: int) -> list[tuple[int, int]]:
    found = []
    for match in _IBAN_START.finditer(text, start):
        length = _IBAN_LENGTHS.get(match.group()[:2].upper(), 0)
        value, end = match.group(), match.end()
        while len(value) < length:
            group = _IBAN_GROUP.match(text, end, end + 1 + min(4, length - len(value)))
            if not group:
                break
            room = length - len(value)
            taken = group.group(1)[:room]
            end = group.start(1) + len(taken)
            value += taken
            if len(taken) < 4:
                break
        after = text[end : end + 1]
        ends_there = not (after.isascii() and after.isalnum())
        if length and len(value) == length and ends_there and _is_iban(value):
            found.append((match.start(), end))
    return found


def _is_iban(value: str) -> bool:
    # ISO 7064 mod 97-10: move the first four to the end, letters become 10 to 35, the rest must be 1.
    turned = (value[4:] + value[:4]).lower()
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def _find_ssns(text: str, start: int) -> list[tuple[int, int]]:
    return [
        match.span()
        for match in _SSN.finditer(text, start)
        # Three groups of digits with spaces stand in every table; then the text must say what they are.
        if match.group(1) in "-\u2010\u2011"
        or _SSN_WORD.search(text, max(0, match.start() - _SSN_WORD_WITHIN), match.start())
    ]


def _find_phones(text: str, start: int) -> list[tuple[int, int]]:
    return [match.span() for match in _PHONE.finditer(text, start) if _is_phone(match.group())]


def _is_phone(value: str) -> bool:
    digits = re.sub(r"[^0-9]", "", value)
    # "+200 000 000" is a quantity; 555-01xx is set aside for fiction.
    return len(set(digits)) >= 4 and digits[-7:-2] != "55501"


_FINDERS: tuple[tuple[str, Callable[[str, int], list[tuple[int, int]]]], ...] = (
    ("e-mail", _find_emails),
    ("payment card", _find_cards),
    ("IBAN", _find_ibans),
    ("SSN", _find_ssns),
    ("phone number", _find_phones),
)
