"""What a request says about languages."""

import pytest

from deployments.validator.languages.common_words import COMMON_WORDS, ENGLISH_ONLY
from deployments.validator.languages.requests import read_language_request

NAMED = {
    "Say it in German, please.": {"de"},
    "Schreib mir einen Brief auf Englisch.": {"en"},
    "Écris une lettre en allemand et en anglais.": {"de", "en"},
    "Напиши письмо на английском": {"en"},
    "用英语写一封信": {"en"},
    "ドイツ語で手紙を書いて": {"de"},
    "A Danish proverb": {"no"},
    "WRITE IT IN FRENCH": {"fr"},
    "Why is the sky blue?": set(),
    "It is a classic sign of analysis.": set(),
}


@pytest.mark.parametrize("asked", NAMED)
def test_named_languages_are_found(asked: str) -> None:
    assert read_language_request(asked).named == NAMED[asked]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ("Translate this, please.", True),
        ("Bitte übersetze das.", True),
        ("Переведи это предложение", True),
        ("把这句话翻译一下", True),
        ("Say hello in five languages.", True),
        ("How do other African languages form the plural?", True),
        ("Which programming language is it?", False),
        ("Why does 0.1 + 0.2 not equal 0.3 in most languages?", False),
        ("What is body language?", False),
    ],
)
def test_a_wish_for_other_languages_is_found(asked: str, wanted: bool) -> None:
    assert read_language_request(asked).wants_others is wanted


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ("What is the motto of the town?", True),
        ("Kennst du ein Sprichwort?", True),
        ("Draft a note saying that she is ill.", False),
    ],
)
def test_a_wish_for_sayings_is_found(asked: str, wanted: bool) -> None:
    assert read_language_request(asked).wants_sayings is wanted


@pytest.mark.parametrize(
    ("asked", "is_about"),
    [
        ("How can I learn English in a year?", True),
        ("Хочу выучить английский, но постоянно бросаю.", True),
        ("¿Cómo puedo aprender inglés?", True),
        ("I am learning English. Write me a story.", False),
        ("Учу английский. Напиши пример.", False),
        ("Why is the sky blue?", False),
    ],
)
def test_a_question_about_learning_wants_no_text_in_the_language(asked: str, is_about: bool) -> None:
    assert read_language_request(asked).is_about_learning is is_about


def test_common_words_are_lower_case_and_the_english_ones_stand_alone() -> None:
    assert all(word == word.lower() for words in COMMON_WORDS.values() for word in words)
    assert {"the", "and", "what"} <= ENGLISH_ONLY
    assert not any(ENGLISH_ONLY & words for language, words in COMMON_WORDS.items() if language != "en")
