"""The nonwords check: word salad, and the odd words that good answers hold."""

import pytest

from deployments.validator.checks import nonwords
from deployments.validator.thresholds import Thresholds
from graph.contracts import CheckContext

SALAD = (
    "Volcano erupting comes of melt stone lighterly than its neighbours, so upwards it pressurates in chimneyhood. "
    "Gases dissolven like sodas unpop when pressure lessles, foamingly tearing magmas to ashen. Thick magma clogs and "
    "bangs, runny magma rivers out gentlish, and the exactness stays unguessed."
)
GOOD = (
    "Volcanoes erupt because molten rock is lighter than the stone around it and rises through cracks towards the "
    "surface. Gases that were dissolved in it form bubbles when the pressure falls, and tear the magma into ash. "
)

CAUGHT = {
    "salad": CheckContext(),
    "asked in English": CheckContext(language="en"),
    "asked in British English": CheckContext(language="en-GB"),
    "with a prompt": CheckContext(prompt="How do volcanoes erupt?", system="Be brief."),
}


@pytest.mark.parametrize("name", CAUGHT)
def test_word_salad_is_found(name: str) -> None:
    (finding,) = nonwords.check(SALAD, CAUGHT[name])
    assert finding.severity == "soft"
    assert "no English words" in finding.message


PASSED = {
    "good text": GOOD,
    "technical terms": GOOD
    + "Pahoehoe and pyroclastic andesite, rhyolite, phreatomagmatic tephra, keratinocytes and melanocytes.",
    "names": GOOD + "Eyjafjallajökull, Popocatépetl, Whakaari, Nyiragongo, Nevado del Ruiz and Galungan are Qzxwvas.",
    "invented words in italics": GOOD + "*flimbert*, *grundlesome*, _quibbitly_ and **snorklepuff** are my own.",
    "quoted words": GOOD + 'They say "flimbert", "grundlesomer", "quibbitly" and “snorklepuff blispers”.',
    "code": GOOD
    + "Call `strncpyx grundlez` or\n\n```\nqzxwv asdfgh jklmnop qwertyx\n```\nand foo_bazqux, frobz.quuxly, grmblfx().",
    "addresses": GOOD
    + "See https://grundle.example/flimbert/quibbit or www.snorkle.example and /usr/libqzx/grundlesome.",
    "joined words": GOOD + "The rhyo-dacitic, the sub-plinianly, the o'grundle and the semi-viscousish ones.",
    "two slips": GOOD + "It is definately a seperatedly thing.",
    "short salad": "Sleeply the moonish cat purrled wumbly.",
    "empty": "",
}


@pytest.mark.parametrize("name", PASSED)
def test_good_answers_pass(name: str) -> None:
    assert nonwords.check(PASSED[name], CheckContext()) == ()


OTHERS = {
    "de": "Vulkane brechen aus, weil geschmolzenes Gestein leichter ist als der Fels ringsum und durch Risse nach oben steigt. "
    "Gelöste Gase bilden Blasen, sobald der Druck nachlässt, und zerreissen das Magma zu feiner Asche, die weit fliegt.",
    "tr": "Yanardağlar, erimiş kaya çevresindeki taştan daha hafif olduğu için patlar ve çatlaklardan yüzeye yükselir. "
    "Basınç düşünce içinde çözünmüş gazlar kabarcıklar oluşturur ve magmayı ince kül haline getirerek havaya savurur.",
}


@pytest.mark.parametrize("language", OTHERS)
def test_other_languages_pass_asked_for_or_not(language: str) -> None:
    for context in (CheckContext(), CheckContext(language=language), CheckContext(language="en")):
        assert nonwords.check(OTHERS[language], context) == ()


def test_words_that_the_caller_used_are_words() -> None:
    words = "lighterly pressurates chimneyhood dissolven lessles foamingly gentlish"
    for context in (CheckContext(prompt=words), CheckContext(known_text=words), CheckContext(system=words.upper())):
        assert nonwords.check(SALAD, context) == ()


def test_nonsense_verse_passes() -> None:
    verse = SALAD.replace(", ", ",\n").replace(". ", ".\n").replace(" of ", "\nof ").replace(" and ", "\nand ")
    assert nonwords.check(verse, CheckContext()) == ()


def test_json_passes() -> None:
    assert nonwords.check(SALAD, CheckContext(answer_format="json")) == ()
    assert nonwords.check(SALAD, CheckContext(json_schema={})) == ()


def test_the_thresholds_decide() -> None:
    assert nonwords.check(SALAD, CheckContext(), Thresholds(nonword_share=0.6)) == ()
    assert nonwords.check(SALAD, CheckContext(), Thresholds(nonword_min_words=200)) == ()
