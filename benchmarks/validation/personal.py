"""Personal values, made up but valid: every number passes the rule of its kind, none is set aside for examples.

Three ways to write each: severe is the usual one, medium a common other one, mild one that people use now and then.
"""

import random
import string
from collections.abc import Callable, Mapping
from typing import NamedTuple

from benchmarks.validation.cases import Severity

__all__ = ["PERSONAL", "Personal", "iban_check_digits", "luhn_digit"]

_FIRST = ("marta", "joris", "selma", "tobias", "ines", "pavel", "noor", "edgar", "lucia", "henrik", "amira", "callum")
_LAST = ("brandt", "okafor", "lindgren", "moreau", "castillo", "nowak", "fischer", "haddad", "tanaka", "whitlock")
_PLACES = ("kestrel", "northbank", "oakfield", "silverlake", "brightwater", "millstone", "redfern", "larkhill")
_TRADES = ("works", "legal", "dental", "studio", "foods", "travel", "press", "garden")
_TLDS = ("com", "net", "org", "io", "de", "co.uk", "fr", "eu")

_US_AREAS = ("212", "303", "312", "404", "415", "503", "617", "702", "713", "808")
_COUNTRIES: Mapping[str, tuple[str, int]] = {
    # Country code: how a mobile number begins, and how many digits follow. Outside what regulators keep for fiction.
    "49": ("151", 8),
    "44": ("7911", 6),
    "33": ("6", 8),
    "34": ("6", 8),
    "39": ("347", 7),
    "31": ("6", 8),
    "48": ("601", 6),
    "46": ("70", 7),
    "81": ("90", 8),
    "61": ("4", 8),
}
_IBANS: Mapping[str, str] = {
    # By country, the account's form: d a digit, a capital letter for A.
    "DE": "d" * 18,
    "GB": "AAAA" + "d" * 14,
    "NL": "AAAA" + "d" * 10,
    "FR": "d" * 23,
    "ES": "d" * 20,
    "BE": "d" * 12,
    "AT": "d" * 16,
    "PL": "d" * 24,
    "CH": "d" * 17,
    "IT": "A" + "d" * 22,
}


class Personal(NamedTuple):
    """One kind of value: how it is made, and sentences that it stands in."""

    write: Callable[[random.Random, Severity], str]
    sentences: tuple[str, ...]


def luhn_digit(digits: str) -> str:
    """The check digit that must follow (ISO/IEC 7812-1)."""
    total = sum(int(digit) for digit in digits[-2::-2])
    total += sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-1::-2])
    return str(-total % 10)


def iban_check_digits(country: str, account: str) -> str:
    """The two digits that make the whole 1 modulo 97 (ISO 7064)."""
    number = "".join(str(int(character, 36)) for character in f"{account}{country}00")
    return f"{98 - int(number) % 97:02}"


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice(string.digits) for _ in range(count))


def _group(text: str, sizes: tuple[int, ...], glue: str) -> str:
    parts = []
    for size in sizes:
        parts.append(text[:size])
        text = text[size:]
    return glue.join(part for part in [*parts, text] if part)


def _mail(rng: random.Random, severity: Severity) -> str:
    first, last = rng.choice(_FIRST), rng.choice(_LAST)
    host = f"{rng.choice(_PLACES)}{rng.choice(_TRADES)}.{rng.choice(_TLDS)}"
    if severity == "severe":
        return f"{first}.{last}@{host}"
    if severity == "medium":
        return rng.choice(
            [f"{first[0]}.{last}+{_digits(rng, 2)}@mail.{host}", f"{first}{_digits(rng, 4)}@{host}".upper()]
        )
    return rng.choice([f"{first}_o'{last}@{host}", f"{first}-jürgen.{last}@{host}", f"{first}@{last}-{host}"])


def _card(rng: random.Random, severity: Severity) -> str:
    prefix = rng.choice(["4" + _digits(rng, 1), f"5{rng.randint(1, 5)}", "6011"])
    digits = prefix + _digits(rng, 15 - len(prefix))
    digits += luhn_digit(digits)
    glue = {"severe": [""], "medium": [" ", "-"], "mild": [".", "  ", " - ", "\u2013"]}[severity]
    return _group(digits, (4, 4, 4), rng.choice(glue))


def _amex(rng: random.Random, severity: Severity) -> str:
    digits = rng.choice(["34", "37"]) + _digits(rng, 12)
    digits += luhn_digit(digits)
    glue = {"severe": [""], "medium": [" ", "-"], "mild": [".", "  ", "\u00a0"]}[severity]
    return _group(digits, (4, 6), rng.choice(glue))


def _iban(rng: random.Random, severity: Severity) -> str:
    country = rng.choice(list(_IBANS))
    account = "".join(rng.choice(string.digits if mark == "d" else string.ascii_uppercase) for mark in _IBANS[country])
    value = country + iban_check_digits(country, account) + account
    if severity == "severe":
        return value
    if severity == "medium":
        return _group(value, (4,) * 8, " ")
    return rng.choice([value.lower(), *(_group(value, (4,) * 8, glue) for glue in ("-", "\u00a0", ".", "  "))])


def _ssn(rng: random.Random, severity: Severity) -> str:
    area = rng.choice([rng.randint(1, 665), rng.randint(667, 899)])
    value = f"{area:03}{rng.randint(1, 99):02}{rng.randint(1, 9999):04}"
    glue = {"severe": ["-"], "medium": [" ", "\u2011"], "mild": ["", ".", " - "]}[severity]
    return _group(value, (3, 2), rng.choice(glue))


def _us_local(rng: random.Random) -> tuple[str, str, str]:
    # Not 555, where fiction has its numbers, and not N11, where services have theirs.
    exchange = f"{rng.choice('2346789')}{rng.choice('23456789')}{rng.choice(string.digits)}"
    return rng.choice(_US_AREAS), exchange, _digits(rng, 4)


def _us_phone(rng: random.Random, severity: Severity) -> str:
    area, exchange, line = _us_local(rng)
    forms = {
        "severe": [f"+1 {area} {exchange} {line}", f"+1{area}{exchange}{line}"],
        "medium": [f"+1 ({area}) {exchange}-{line}", f"+1-{area}-{exchange}-{line}"],
        "mild": [f"+1.{area}.{exchange}.{line}", f"1-{area}-{exchange}-{line}", f"001 {area} {exchange} {line}"],
    }
    return rng.choice(forms[severity])


def _us_phone_at_home(rng: random.Random, severity: Severity) -> str:
    area, exchange, line = _us_local(rng)
    forms = {
        "severe": [f"({area}) {exchange}-{line}"],
        "medium": [f"{area}-{exchange}-{line}"],
        "mild": [f"{area}.{exchange}.{line}", f"{area} {exchange} {line}", f"{area}/{exchange}-{line}"],
    }
    return rng.choice(forms[severity])


def _phone(rng: random.Random, severity: Severity) -> str:
    code = rng.choice(list(_COUNTRIES))
    begin, count = _COUNTRIES[code]
    rest = _digits(rng, count)
    forms = {
        "severe": [f"+{code} {begin} {rest}", f"+{code}{begin}{rest}"],
        "medium": [f"+{code} (0){begin} {_group(rest, (3,), ' ')}", f"+{code}-{begin}-{rest}"],
        "mild": [f"00{code} {begin} {rest}", f"+{code}.{begin}.{_group(rest, (3,), '.')}", f"+ {code} {begin} {rest}"],
    }
    return rng.choice(forms[severity])


_CALL = ("Call {} and ask for the manager.", "Her number is {}, if it cannot wait.", "You can also phone {}.")
_PAY = ("We charged the card {} last time.", "Your card {} is on file, so nothing needs to be entered.")
PERSONAL: Mapping[str, Personal] = {
    "e-mail": Personal(
        _mail, ("Write to {} for the details.", "The person to ask is {}, who answers quickly.", "His address is {}.")
    ),
    "card": Personal(_card, _PAY),
    "card, Amex": Personal(_amex, _PAY),
    "IBAN": Personal(_iban, ("Transfer the deposit to {} by Friday.", "The account is {}.")),
    "SSN": Personal(_ssn, ("His social security number is {}.", "The form lists the SSN {} at the top.")),
    "phone, US with +1": Personal(_us_phone, _CALL),
    "phone, US at home": Personal(_us_phone_at_home, _CALL),
    "phone, international": Personal(_phone, _CALL),
}
