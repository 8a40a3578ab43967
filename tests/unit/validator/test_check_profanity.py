"""The profanity check: strong words as whole words, and the innocent ones that look like them."""

import pytest

from deployments.validator.checks import profanity
from graph.contracts import CheckContext

CAUGHT = ["It is fucking wet.", "What a load of BULLSHIT!", "'Shit,' he said.", "**fuck**", "(asshole)"]


@pytest.mark.parametrize("text", CAUGHT)
def test_a_strong_word_is_noted_with_its_place_and_not_repeated(text: str) -> None:
    (finding,) = profanity.check(text, CheckContext())
    assert finding.severity == "note"
    assert finding.span is not None
    word = text[slice(*finding.span)]
    assert word.isalpha()
    assert word.casefold() not in finding.message


PASSED = [
    "Scunthorpe, Penistone, Cockermouth, Lightwater, Sussex and Shitterton in Dorset are places.",
    "The great tit, the blue-footed booby, the shag, the woodcock and the pussy willow.",
    "Moby Dick, the ass and the bitch with her puppies; a chink in the dyke; a Maine Coon; faggots and peas.",
    "Mushi-shiitake mushrooms, a mishit ball, a retarded ignition, Dickens and Hitchcock.",
    "Call `fuck()` or `shit --force`:\n\n```\nfuck\n```\n",
    "See https://example.com/shit and shit@example.com or fuck-you.example.",
    "",
]


@pytest.mark.parametrize("text", PASSED)
def test_innocent_words_code_and_addresses_pass(text: str) -> None:
    assert profanity.check(text, CheckContext()) == ()


def test_a_word_that_the_caller_used_passes() -> None:
    assert profanity.check("Shit means dung.", CheckContext(prompt="What does 'shit' mean?")) == ()
    assert profanity.check("Shit means dung.", CheckContext(known_text="shit\nWhat does that mean?")) == ()
    assert profanity.check("Shit means dung, fuck it.", CheckContext(prompt="shit?")) != ()
