"""Finds personal values: e-mail addresses, payment cards, IBANs, US social security and phone numbers.

Every pattern is backed by the rule of its number: Luhn (ISO/IEC 7812-1), mod 97-10 and the length of each
country (ISO 13616 registry), the SSA's impossible numbers, the North American numbering plan, E.164 lengths.
Values that the caller sent pass, and those that stand for no person: set aside for examples (RFC 2606 domains,
555-01xx), or free of charge (1-800). Each value is judged by itself and by a bounded stretch of text, so that a
stream cut anywhere gives the same verdict.
"""

import re
from collections.abc import Callable, Iterator

from deployments.validator.checks.secrets import find_run_start
from deployments.validator.sized_cache import SizedCache
from deployments.validator.thresholds import DEFAULTS, Thresholds
from deployments.validator.watch import Hit, Sight, drop_overlaps
from graph.contracts import CheckContext, Finding, Severity

__all__ = ["LOOK_BACK", "NAME", "SEVERITY", "check", "watch"]

NAME = "pii"
SEVERITY: Severity = "hard"
_EMAIL = "e-mail"
_PHONE = "phone number"
LOOK_BACK = 1024
"""A word in progress (MAX_TOKEN) and an address that reaches into it: 345 characters at most, a number _MAX_NUMBER."""
_MAX_NUMBER = 64
"""The longest is a phone number: two characters, 15 digits, three separators before each but the first, and two
characters behind it that say whether it goes on. An IBAN has 34 characters and eight separators of three."""

# Numbers are also written with no-break, narrow and thin spaces, and with marks that take no room.
_SPACE = " \u00a0\u2007\u2009\u202f\u200b-\u200d\u2060\ufeff"
_DASH = "\u2010-\u2015\u2212-"
_GAP = f"(?:[{_SPACE}]?[.{_DASH}][{_SPACE}]?|[{_SPACE}]{{1,2}})"
"""What may stand between two groups of a number: at most _MAX_GAP characters."""
_MAX_GAP = 3
_TIGHT = re.compile(f"[.{_DASH}]")
_TIGHT_DASH = re.compile(f"[{_DASH}]")
_PHONE_GAP = rf"(?:[{_SPACE}]?[/{_DASH}][{_SPACE}]?|\.|[{_SPACE}]?\(|\)[{_SPACE}]?|[{_SPACE}]{{1,2}})?"
_NUMBER_MARKS = f"{_SPACE}.()/{_DASH}"
_NINE_DIGITS = re.compile(f"[0-9](?:[{_NUMBER_MARKS}]{{0,4}}[0-9]){{8,}}")
"""The fewest that a card, a social security or a phone number has."""
_AROUND_DIGITS = 2
"""Characters before and behind them that belong to a number or say that it is none."""

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
    re.compile(pattern.replace("~", _GAP) + r"(?![0-9A-Za-z])")
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

# Looked for by its digits, which are rarer than letters: a quarter of the time.
_IBAN_START = re.compile(r"[0-9][0-9](?<=[A-Za-z]{2}[0-9]{2})(?<![0-9A-Za-z][A-Za-z]{2}[0-9]{2})")
_IBAN_COUNTRIES = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 "
    "EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 "
    "KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 "
    "PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 "
    "UA29 VA22 VG24 XK20 YE30"
)
_IBAN_LENGTHS = {pair[:2]: int(pair[2:]) for pair in _IBAN_COUNTRIES.split()}
_IBAN_GROUP = re.compile(f"{_GAP}?([0-9A-Za-z]{{1,4}})")

_SSN = re.compile(
    r"(?<![0-9A-Za-z_-])(?!000|666|9)[0-9]{3}(~|)(?!00)[0-9]{2}\1(?!0000)[0-9]{4}(?![0-9A-Za-z_-])".replace("~", _GAP)
)
_SSN_WORD = re.compile(r"\bssn\b|social[ -]security", re.IGNORECASE)
_WORD_WITHIN = 48

# E.164 has at most fifteen digits: where a number ends and the next begins, only its country knows. The North
# American ones have ten behind the 1. The patterns are lookaheads: numbers are found inside one another, so that
# the place from which a stream is searched does not matter.
_AMERICAN = "1~[2-9](?:~[0-9]){9}"
# The country codes that the ITU has assigned; those of three digits with the rest of their ten.
_COUNTRY = (
    "(?:7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|(?:2[1-69]|3[578]|42|50|59|6[789]|8[0578]|9[679])[0-9])"
)
# "00..." without a gap behind the country is a bar code, "+ " behind a number is a sum.
_PHONE_ABROAD = re.compile(
    (
        rf"(?<![0-9A-Za-z+])(?=((?:\+{_AMERICAN}|\+[2-9](?:~[0-9]){{8,14}}"
        rf"|(?<![0-9][.,:/-])(?<![0-9)\]][{_SPACE}])(?<![0-9)\]][{_SPACE}]{{2}})(?:\+[{_SPACE}]|00)"
        rf"(?:(?=1[^0-9]){_AMERICAN}|{_COUNTRY}(?![0-9])(?:~[0-9]){{7,13}}))(?![0-9A-Za-z])))"
    ).replace("~", _PHONE_GAP)
)
_PHONE_AT_HOME = re.compile(
    rf"(?<![0-9A-Za-z_+/=#&$£€{_DASH}])(?<![0-9]\.)"
    rf"(?=((?:1{_GAP})?(?:(\()[2-9][0-9]{{2}}\)[{_SPACE}]?|[2-9][0-9]{{2}}(?:{_GAP}|/))[2-9][0-9]{{2}}({_GAP})[0-9]{{4}}"
    rf"(?![0-9A-Za-z_]|[.{_DASH}][0-9A-Za-z])))"
)
_NOBODYS_AREA = re.compile(r"[2-9]00|.11|.9|37|96|555|8(?:33|44|55|66|77|88)")
"""Area codes of no person: not assigned, of services (911), of templates (555), and those that are free to call."""
_COUNTED = re.compile("1234567|2345678|3456789")
"""Digits that only a template has in a row."""
_PHONE_WORD = re.compile(
    r"phone|telefon|\b(?:tel|call|mobile|cell|number|dial|ring|text|sms|whatsapp|fax|reach|contact)\b", re.IGNORECASE
)

_OPEN_NUMBER = re.compile(
    rf"(?:[0-9+(][0-9+{_NUMBER_MARKS}]*|(?<![0-9A-Za-z])[A-Za-z]{{2}}[0-9]{{2}}"
    rf"(?:{_GAP}?[0-9A-Za-z]{{4}})*[{_SPACE}.{_DASH}]{{0,{_MAX_GAP}}}[0-9A-Za-z]{{0,3}})\Z"
)
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")
_DIGIT_GROUPS = re.compile(f"[0-9]+(?:[{_NUMBER_MARKS}]{{1,{_MAX_GAP}}}[0-9]+)*")
_MAX_GROUPS = 6
"""So many groups of digits in a row of the caller's text may be one number, among others."""
_KNOWN_LENGTHS = range(7, 20)
_known: SizedCache[frozenset[str]] = SizedCache(limit=100_000, measure=len)
"""The values of callers' texts: a stream asks again for each one that it comes upon."""


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
        hit
        for hit in _find_values(text, start)
        if start <= hit.start < open_from and not _is_known(hit.kind, text[hit.start : hit.end], context.known_text)
    )
    findings = tuple(
        Finding(NAME, SEVERITY, f"{kind}: a personal value that the caller did not send", (begin, end))
        for begin, end, kind in drop_overlaps(hits)
    )
    return Sight(findings, open_from)


def _find_values(text: str, start: int) -> Iterator[Hit]:
    for begin, end in _find_emails(text, start):
        yield Hit(begin, end, _EMAIL)
    for begin, end in _find_ibans(text, start):
        yield Hit(begin, end, "IBAN")
    # Most texts have no number of nine digits, and need no further look.
    for digits in _NINE_DIGITS.finditer(text, start):
        first, last = max(start, digits.start() - _AROUND_DIGITS), digits.end() + _AROUND_DIGITS
        for kind, find in _NUMBER_FINDERS:
            for begin, end in find(text, first, last):
                yield Hit(begin, end, kind)


def _is_known(kind: str, value: str, known_text: str) -> bool:
    return known_text != "" and _normalise(kind, value) in _known.get(known_text, lambda: _find_known(known_text))


def _find_known(text: str) -> frozenset[str]:
    """The values of the caller's text, normalised: a set, since an answer may repeat thousands of them.

    A number need not have the form in which it is found in answers: all that a few groups of digits in a row may
    spell is taken for known. Of an e-mail address, what stands behind a mark in its local part is known, too
    ("?to=jane@acme.com").
    """
    known = set()
    for hit in _find_values(text, 0):
        value = _normalise(hit.kind, text[hit.start : hit.end])
        known.add(value)
        if hit.kind == _EMAIL:
            local = value.partition("@")[0]
            known.update(value[mark.end() :] for mark in _NOT_ALPHANUMERIC.finditer(local))
    for run in _DIGIT_GROUPS.finditer(text):
        known.update(_join_groups(run.group()))
    return frozenset(known)


def _join_groups(run: str) -> Iterator[str]:
    """What one to ``_MAX_GROUPS`` groups of digits in a row spell, where it is as long as a number."""
    digits = _NOT_ALPHANUMERIC.sub("", run)
    borders = [0]
    for group in _NOT_ALPHANUMERIC.split(run):
        borders.append(borders[-1] + len(group))
    for at, begin in enumerate(borders):
        for end in borders[at + 1 : at + 1 + _MAX_GROUPS]:
            if end - begin in _KNOWN_LENGTHS:
                yield _strip_prefix(digits[begin:end])


def _normalise(kind: str, value: str) -> str:
    """The one form of a value that may be written in several ways."""
    if kind == _EMAIL:
        return value.casefold()
    if kind == _PHONE:
        return _strip_prefix(_NOT_ALPHANUMERIC.sub("", value.replace("(0)", "")))
    return _NOT_ALPHANUMERIC.sub("", value).casefold()


def _strip_prefix(digits: str) -> str:
    """A phone number's digits without what is dialled before a country, and without North America's 1."""
    digits = digits.removeprefix("00")
    return digits[1:] if len(digits) == 11 and digits[0] == "1" else digits


def _find_emails(text: str, start: int) -> Iterator[tuple[int, int]]:
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
                and before[: len(before) - len(local)][-1:] != "@"  # @name@host is a handle
            )
            if is_address:
                yield at - len(local), domain.end()
        at = text.find("@", at + 1)


def _find_cards(text: str, start: int, until: int) -> Iterator[tuple[int, int]]:
    for match in _CARD_START.finditer(text, start, until):
        for pattern in (_CARD_SOLID, *_CARD_GROUPED):
            card = pattern.match(text, match.start(), until)
            if card and _is_card(_NOT_ALPHANUMERIC.sub("", card.group())) and not _is_in_columns(text, card):
                yield card.span()
                break


def _is_card(digits: str) -> bool:
    issued = any(prefix.match(digits) and len(digits) in lengths for prefix, lengths in _CARD_ISSUERS)
    if not issued:
        return False
    # Luhn: double every second digit from the right, add the digits of the products.
    total = sum(int(digit) for digit in digits[-1::-2])
    total += sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return total % 10 == 0


def _is_in_columns(text: str, card: re.Match[str]) -> bool:
    """Whether the groups stand two spaces apart, and so do the numbers around them."""
    gap = card.re.groups and card.group(1)
    if not gap or len(gap) < 2 or not gap.isspace():
        return False
    begin, end = card.span()
    size = len(gap)
    before, after = text[max(0, begin - size - 1) : begin], text[end : end + size + 1]
    return (before[:1].isdigit() and before[1:] == gap) or (after[-1:].isdigit() and after[:-1] == gap)


def _find_ibans(text: str, start: int) -> Iterator[tuple[int, int]]:
    for match in _IBAN_START.finditer(text, start):
        begin, end = match.start() - 2, match.end()
        value = text[begin:end]
        length = _IBAN_LENGTHS.get(value[:2].upper(), 0)
        while len(value) < length:
            room = length - len(value)
            group = _IBAN_GROUP.match(text, end, end + _MAX_GAP + min(4, room))
            if not group:
                break
            taken = group.group(1)[:room]
            end = group.start(1) + len(taken)
            value += taken
            if len(taken) < 4:
                break
        after = text[end : end + 1]
        ends_there = not (after.isascii() and after.isalnum())
        if length and len(value) == length and ends_there and _is_iban(value):
            yield begin, end


def _is_iban(value: str) -> bool:
    # ISO 7064 mod 97-10: move the first four to the end, letters become 10 to 35, the rest must be 1.
    turned = (value[4:] + value[:4]).lower()
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def _find_ssns(text: str, start: int, until: int) -> Iterator[tuple[int, int]]:
    for match in _SSN.finditer(text, start, until):
        # Three groups of digits with spaces stand in every table; then the text must say what they are.
        if _TIGHT_DASH.fullmatch(match.group(1)) or _stands_before(_SSN_WORD, text, match.start()):
            yield match.span()


def _stands_before(word: re.Pattern[str], text: str, at: int) -> bool:
    return word.search(text, max(0, at - _WORD_WITHIN), at) is not None


def _find_phones(text: str, start: int, until: int) -> Iterator[tuple[int, int]]:
    for match in _PHONE_ABROAD.finditer(text, start, until):
        if _is_phone(match.group(1)):
            yield match.span(1)
    for match in _PHONE_AT_HOME.finditer(text, start, until):
        number, bracket, gap = match.groups()
        # Loops and tables have "256 512 1024"; brackets, dashes and dots tell a phone number.
        is_tight = bracket is not None or _TIGHT.fullmatch(gap) is not None
        if _is_phone(number) and (is_tight or _stands_before(_PHONE_WORD, text, match.start())):
            yield match.span(1)


def _is_phone(value: str) -> bool:
    """Whether a number that is written like one may be a person's."""
    digits = re.sub(r"[^0-9]", "", value).removeprefix("00")
    if digits[-7:-2] == "55501" or _COUNTED.search(digits):  # 555-01xx is set aside for fiction
        return False
    is_american = value[0] not in "+0" or digits[0] == "1"
    if is_american:
        return not _NOBODYS_AREA.match(digits, len(digits) - 10) and digits[-6:-4] != "11" and len(set(digits)) >= 3
    return len(set(digits)) >= 4  # "+200 000 000" is a quantity


_NUMBER_FINDERS: tuple[tuple[str, Callable[[str, int, int], Iterator[tuple[int, int]]]], ...] = (
    ("payment card", _find_cards),
    ("SSN", _find_ssns),
    (_PHONE, _find_phones),
)
