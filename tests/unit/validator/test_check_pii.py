"""The personal-data check: which values it must catch, and which stand for nobody."""

import itertools
import time

import pytest

from deployments.validator.checks import pii
from graph.contracts import CheckContext

CAUGHT = {
    "e-mail": "jane.doe@acme-corp.com",
    "e-mail with plus": "j.doe+news@mail.acme.co.uk",
    "e-mail of an accented domain": "info@müller-bau.de",
    "visa in groups": "4111 1111 1111 1111",
    "visa with hyphens": "4242-4242-4242-4242",
    "visa solid": "4012888888881881",
    "mastercard": "5555 5555 5555 4444",
    "mastercard of the 2 series": "2223003122003222",
    "amex in groups": "3782 822463 10005",
    "amex solid": "371449635398431",
    "discover": "6011 1111 1111 1117",
    "visa with no-break spaces": "4111\u00a01111\u00a01111\u00a01111",
    "german iban": "DE89 3704 0044 0532 0130 00",
    "british iban": "GB29NWBK60161331926819",
    "french iban": "FR14 2004 1010 0505 0001 3M02 606",
    "ssn": "123-45-6789",
    "phone of germany": "+49 30 901820",
    "phone of the us": "+1 (415) 867-5309",
    "phone with dots": "+33.1.42.68.53.00",
    "phone solid": "+442079460958",
    "phone of germany with its trunk digit": "+49 (0)151 230 677 81",
    "phone behind a plus and a space": "+ 44 7911 123056",
    "phone behind two zeros": "0049 151 23067781",
    "phone of sweden behind two zeros": "0046 70 5854619",
    "phone of the us behind two zeros": "001 617 891 6778",
    "phone of the us behind a one": "1-415-642-5226",
    "phone of the us with a bracket": "(617) 891-6778",
    "phone of the us with dashes": "617-891-6778",
    "phone of the us with dots": "617.891.6778",
    "phone of the us with a slash": "617/891-6778",
    "phone of the us with no-break hyphens": "617\u2011891\u20116778",
    "phone of the us with few digits": "+1 212 292 2112",
    "discover with dots": "6011.1111.1111.1117",
    "visa with dashes between spaces": "4111 - 1111 - 1111 - 1111",
    "visa with en dashes": "4111\u20131111\u20131111\u20131111",
    "visa with zero-width spaces": "4111\u200b1111\u200b1111\u200b1111",
    "amex with two spaces": "3782  822463  10005",
    "german iban with hyphens": "DE89-3704-0044-0532-0130-00",
    "german iban with dots": "DE89.3704.0044.0532.0130.00",
    "german iban with two spaces": "DE89  3704  0044  0532  0130  00",
}


@pytest.mark.parametrize("kind", CAUGHT)
def test_a_personal_value_is_found_with_its_place(kind: str) -> None:
    text = f"Write it down: {CAUGHT[kind]}, and keep it."
    (finding,) = pii.check(text, CheckContext())
    assert finding.severity == "hard"
    assert finding.span is not None
    assert text[slice(*finding.span)] == CAUGHT[kind]
    assert CAUGHT[kind] not in finding.message


@pytest.mark.parametrize("kind", CAUGHT)
def test_a_value_is_found_between_characters_of_another_script(kind: str) -> None:
    (finding,) = pii.check(f"请记住{CAUGHT[kind]}谢谢", CheckContext())
    assert finding.span == (3, 3 + len(CAUGHT[kind]))


PASSED = {
    "handle of the fediverse": "@birdnerd@birds.social has two halves, the name and the server.",
    "example.com": "Write to someone@example.com, a@mail.example.org or b@example.net.",
    "reserved top level": "user@host.test and user@intranet.example do not exist.",
    "retina image": "Ship icon@2x.png and logo@3x.svg.",
    "git remote": "git clone git@github.com:acme/tool.git",
    "package with version": "npm install left-pad@1.3.0 @types/node@20.1.2",
    "decorator": "@app.route('/users')\ndef users(): ...",
    "version numbers": "Upgrade from 10.15.7 to 2026.11.15, or to 4.18.0.1234 at least.",
    "ip addresses": "The hosts are 192.168.0.1, 10.0.0.255:8080 and 2001:0db8:85a3:0000:0000:8a2e:0370:7334.",
    "isbn": "ISBN 978-3-16-148410-0 and 9783161484100.",
    "order number that fails luhn": "Order 4111 1111 1111 1112 is on its way; so is 4111111111111112.",
    "years in a row": "The finals of 2012 2014 2016 2018 2020 2022 were close.",
    "table of numbers": "| 1200 | 3400 | 5600 | 7800 |\n| 4000 | 4100 | 4200 | 4300 |",
    "iban with a wrong check": "DE88 3704 0044 0532 0130 00",
    "iban of no country": "XX89 3704 0044 0532 0130 00",
    "ssn that cannot be": "000-12-3456, 666-12-3456, 900-12-3456, 123-00-4567 and 123-45-0000",
    "three groups with spaces": "Rows: 219 09 9998, 219 10 1234",
    "date": "Between 2024-05-17 and 17-05-2024 nothing happened.",
    "phone of fiction": "Call +1 212 555 0123 in the film.",
    "quantity": "It grew by +200 000 000 units, or +1 000 000 000.",
    "long decimal": "Pi is 3.14159265358979323846 and e is 2.7182818284590452.",
    "arithmetic": "12+3456789012 = 3456789024",
    "arithmetic with spaces": "12 + 49 151 2306778 and (7) + 44 7911 123056",
    "free of charge": "Call 1-800-222-1222, +1 (888) 273-8255 or 866.331.9474.",
    "templates": "(555) 867-5309, 123-456-7890, +1 234 567 8900 and +49 151 23456789",
    "services": "(617) 911-6778, 311-891-6778 and 700-891-6778",
    "numbers of things": "Order 305-448-2291-7, part #415-642-5226, 415-642-5226-B and 2024-415-642-5226",
    "files and paths": "415-642-5226.pdf and https://shop.org/items/415-642-5226/",
    "version of four parts": "From 10.617.891.6778 to 11.0",
    "shell loop": "for n in 256 512 1024; do",
    "bar code": "0049000042566 and 0 049000 042566",
    "meter readings": "Readings: 12 0049 3321 8876",
    "columns of numbers": "4111  1111  1111  1111  1200\n1200  4111  1111  1111  1111",
    "coordinates": "52.520008, 13.404954 and 40° 26′ 46″ N, 79° 58′ 56″ W",
    "times": "2024-05-17T10:15:30.123456789+02:00",
}


@pytest.mark.parametrize("name", PASSED)
def test_what_stands_for_nobody_passes(name: str) -> None:
    assert pii.check(PASSED[name], CheckContext()) == ()


@pytest.mark.parametrize(
    ("before", "value"),
    [
        ("Her social security number is ", "219 09 9998"),
        ("Her social security number is ", "219099998"),
        ("The form lists the SSN ", "219.09.9998"),
        ("The form lists the SSN ", "219 - 09 - 9998"),
        ("Her number is ", "617 891 6778"),
        ("Her number is ", "617 - 891 - 6778"),
        ("You can phone ", "1 617 891 6778"),
    ],
)
def test_groups_of_digits_that_may_be_anything_are_a_value_where_the_text_says_so(before: str, value: str) -> None:
    (finding,) = pii.check(f"{before}{value}.", CheckContext())
    assert finding.span == (len(before), len(before) + len(value))
    assert pii.check(f"The row begins with {value}.", CheckContext()) == ()


@pytest.mark.parametrize("kind", CAUGHT)
def test_every_beginning_of_a_value_is_held_and_nothing_once_it_has_ended(kind: str) -> None:
    before, value = "Write it down: ", CAUGHT[kind]
    text = before + value
    for end in range(len(before) + 1, len(text) + 1):
        sight = pii.watch(text[:end], CheckContext(), 0, False)
        assert sight.open_from <= len(before)
        assert sight.findings == ()
    sight = pii.watch(f"{text}, and", CheckContext(), 0, False)
    assert [finding.span for finding in sight.findings] == [(len(before), len(text))]
    assert sight.open_from == len(f"{text}, ")


@pytest.mark.parametrize(
    ("known", "answer"),
    [
        ("my address is Jane.Doe@acme.com", "I noted jane.doe@acme.com."),
        ("charge 4111111111111111", "Charging 4111 1111 1111 1111."),
        ("iban de89370400440532013000", "Sent to DE89 3704 0044 0532 0130 00."),
        ("call +49 (30) 901820", "Calling +49 30 901820."),
        ("call +49 (0)30 901820", "Calling +49 30 901820."),
        ("call 0049 30 901820 / 0049 30 901821", "Calling +49 30 901821."),
        ("call 6178916778", "Calling (617) 891-6778."),
        ("call 617-891-6778", "Calling +1 617 891 6778."),
        ("her numbers are 219099998 and 4", "Her SSN is 219-09-9998."),
        ("see https://acme.com/?to=jane@acme.com", "Writing to jane@acme.com."),
    ],
)
def test_a_value_that_the_caller_sent_passes_however_it_was_written(known: str, answer: str) -> None:
    assert pii.check(answer, CheckContext(known_text=known)) == ()
    assert pii.check(answer, CheckContext(known_text="something else")) != ()


def test_a_card_is_found_next_to_other_numbers() -> None:
    text = "Card 4111 1111 1111 1111 123 05 27"
    (finding,) = pii.check(text, CheckContext())
    assert finding.span is not None
    assert text[slice(*finding.span)].startswith("4111 1111 1111 1111")


@pytest.mark.parametrize(
    "text",
    [
        "+1 415 867 5309 123-45-6789",
        "+49 30 901820 4111 1111 1111 1111",
        "4111 1111 1111 1111 +1 415 867 5309",
        "DE89 3704 0044 0532 0130 00 4111 1111 1111 1111",
        "jane@acme.com,+49 30 901820",
    ],
)
def test_neighbours_do_not_hide_one_another(text: str) -> None:
    spans = [finding.span for finding in pii.check(text, CheckContext()) if finding.span]
    hidden = "".join(" " if any(a <= at < b for a, b in spans) else mark for at, mark in enumerate(text))
    assert len(spans) == 2
    assert not hidden.strip(" ,")


def test_thousands_of_values_are_compared_with_a_long_text_of_the_caller_in_no_time() -> None:
    sent = " ".join(f"x{number}@y.org" for number in range(5_000))
    answer = " ".join(f"{number}@y.org" for number in range(40_000, 60_000))
    began = time.process_time()
    findings = pii.check(f"x7@y.org {answer} {sent}", CheckContext(known_text=sent))
    assert time.process_time() - began < 3
    assert len(findings) == 20_000


def test_values_of_one_kind_never_overlap() -> None:
    spans = [finding.span for finding in pii.check("x@y.zz@y.zz@y.zz " * 3, CheckContext()) if finding.span]
    assert spans
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
