"""The language check: the wrong language, and the many reasons to say nothing."""

import pytest

from deployments.validator.checks import language
from graph.contracts import CheckContext

QUESTION = "Please explain to me how rain is made and why it falls on the hills."
ENGLISH = "Warm air rises from the sea and cools down. The vapour in it turns into small drops of water."
GERMAN = "Warme Luft steigt vom Meer auf und kühlt sich ab. Der Dampf darin wird zu kleinen Wassertropfen."
FRENCH = "L'air chaud monte de la mer et se refroidit. La vapeur devient de petites gouttes d'eau dans le ciel."
SPANISH = "El aire caliente sube desde el mar y se enfría. El vapor se convierte en pequeñas gotas de agua."
CHINESE = "温暖的空气从海面上升并逐渐冷却。空气中的水蒸气变成了小水滴,然后落在山上。"
RUSSIAN = "Тёплый воздух поднимается от моря и остывает. Пар в нём превращается в маленькие капли воды."

CAUGHT = {
    "german for an english question": (GERMAN, CheckContext(prompt=QUESTION)),
    "french for an english question": (FRENCH, CheckContext(prompt=QUESTION)),
    "chinese for an english question": (CHINESE, CheckContext(prompt=QUESTION)),
    "english where german was asked for": (ENGLISH, CheckContext(prompt=QUESTION, language="de")),
    "english where japanese was asked for": (ENGLISH, CheckContext(language="ja")),
    "spanish where portuguese of brazil was asked for": (SPANISH, CheckContext(language="pt-BR")),
    "half": (ENGLISH + " " + GERMAN, CheckContext(prompt=QUESTION)),
    "english for a russian question": (ENGLISH, CheckContext(prompt=RUSSIAN)),
    "english for a chinese question": (
        ENGLISH,
        CheckContext(prompt="请详细解释一下雨是怎样形成的,以及为什么雨总是落在山上。"),
    ),
}


@pytest.mark.parametrize("name", CAUGHT)
def test_the_wrong_language_is_found(name: str) -> None:
    text, context = CAUGHT[name]
    (finding,) = language.check(text, context)
    assert finding.severity == "soft"


PASSED = {
    "english for an english question": (ENGLISH, CheckContext(prompt=QUESTION)),
    "german as asked": (GERMAN, CheckContext(prompt=QUESTION, language="de")),
    "chinese as asked": (CHINESE, CheckContext(prompt=QUESTION, language="zh")),
    "russian for a russian question": (RUSSIAN, CheckContext(prompt=RUSSIAN)),
    "code": ("```python\n" + "for wert in werte: ausgabe(wert)\n" * 5 + "```", CheckContext(prompt=QUESTION)),
    "bare code": ("for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; }", CheckContext(prompt=QUESTION)),
    "quoted sentence": (ENGLISH + f" The poem begins “{GERMAN}”", CheckContext(prompt=QUESTION)),
    "quoted block": (ENGLISH + f"\n> {FRENCH}\n", CheckContext(prompt=QUESTION)),
    "one foreign sentence of many": (ENGLISH * 4 + " Das ist aber gar nicht so einfach.", CheckContext(prompt=QUESTION)),
    "short answer": ("Oui, bien sûr.", CheckContext(prompt=QUESTION)),
    "names": ("München, Köln, Düsseldorf", CheckContext(prompt=QUESTION)),
    "translation": (GERMAN, CheckContext(prompt="Translate this text for my friend, please: " + ENGLISH)),
    "question about a language": (FRENCH, CheckContext(prompt="How would I say in French how the rain is made?")),
    "short question": (GERMAN, CheckContext(prompt="Regen?")),
    "no question": (GERMAN, CheckContext()),
    "close relative": ("Den varme luften stiger opp fra havet og blir kald. Dampen blir til små dråper med vann.", CheckContext(language="da")),
    "json": ('{"antwort": "Der Regen fällt auf die Berge und auf das Meer."}', CheckContext(prompt=QUESTION, answer_format="json")),
    "table of numbers": ("| 12 | 13 | 14 |\n| 22 | 23 | 24 |\n" * 5, CheckContext(prompt=QUESTION)),
    "link": ("https://example.com/ein/langer/pfad/mit/deutschen/worten/darin/und/mehr", CheckContext(prompt=QUESTION)),
}  # fmt: skip


@pytest.mark.parametrize("name", PASSED)
def test_the_right_language_or_doubt_passes(name: str) -> None:
    text, context = PASSED[name]
    assert language.check(text, context) == ()
