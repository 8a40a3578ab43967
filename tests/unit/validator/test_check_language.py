"""The language check: the wrong language, and the many reasons to say nothing."""

import pytest

from deployments.validator.checks import language
from deployments.validator.languages.detector import detect
from deployments.validator.languages.pieces import Piece
from graph.contracts import CheckContext

QUESTION = "Please explain to me how rain is made and why it falls on the hills."
ENGLISH = "Warm air rises from the sea and cools down. The vapour in it turns into small drops of water."
GERMAN = "Warme Luft steigt vom Meer auf und kühlt sich ab. Der Dampf darin wird zu kleinen Wassertropfen."
FRENCH = "L'air chaud monte de la mer et se refroidit. La vapeur devient de petites gouttes d'eau dans le ciel."
SPANISH = "El aire caliente sube desde el mar y se enfría. El vapor se convierte en pequeñas gotas de agua."
CHINESE = "温暖的空气从海面上升并逐渐冷却。空气中的水蒸气变成了小水滴,然后落在山上。"
ITALIAN = "L'aria calda sale dal mare e si raffredda. Il vapore si trasforma in piccole gocce d'acqua."
HINDI = "गर्म हवा समुद्र से ऊपर उठती है और ठंडी हो जाती है। उसमें की भाप पानी की छोटी बूँदों में बदल जाती है।"
JAPANESE = "暖かい空気が海から上昇して冷えます。その中の水蒸気は小さな水滴になり、山に降り注ぎます。"
LINES = "die warme Luft steigt vom Meer auf\nund kühlt sich langsam wieder ab\nder Dampf wird zu Tropfen"
DIALOGUE = """"Why is it raining again?"
"Because warm air rises from the sea."
"And what happens to it then?"
"It cools down and turns into drops of water.\""""
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
    "half of it where the question tells nothing": (ENGLISH + " " + GERMAN, CheckContext()),
    "another script for a name": (CHINESE, CheckContext(prompt="Tiramisu?")),
    "lines without end marks": (LINES, CheckContext(prompt=QUESTION)),
    "a dialogue, all of it in quotes": (
        DIALOGUE,
        CheckContext(prompt="Erzähle mir bitte einen Dialog über den Regen."),
    ),
    "a language that was not named": (FRENCH, CheckContext(prompt="How do you say this in Spanish: it is raining?")),
    "english for a short question of which the detector is not sure": (
        ENGLISH,
        CheckContext(prompt="Seperti apa cuaca di Bandung?"),
    ),
    "english for a short question whose commonest word two languages share": (
        ENGLISH,
        CheckContext(prompt="Jak naprawić zepsuty rower?"),
    ),
    "italian for three english words": (ITALIAN, CheckContext(prompt="What is umami?")),
    "chinese with an english title": (
        "The End of the World这首歌在当时非常受欢迎，电台每天都会播放好几次。",
        CheckContext(prompt=QUESTION),
    ),
    "a named one where another was asked for": (GERMAN, CheckContext(prompt="How German is the rain?", language="en")),
    "a learner's own": (ENGLISH, CheckContext(prompt="Хочу выучить английский, но постоянно бросаю. Что делать?")),
    "japanese for a chinese question": (JAPANESE, CheckContext(prompt="为什么雨总是落在山上？请简单说明一下。")),
}
# Two to eight words, as people type them.
SHORT_QUESTIONS = {
    "en": ["Why is the sky blue?", "What is gravity?", "How tall is Mount Everest?", "Write a haiku about tea."],
    "de": ["Warum ist der Himmel blau?", "Was ist Schwerkraft?", "Erzähl mir eine Geschichte."],
    "fr": ["Pourquoi le ciel est-il bleu ?", "Qu'est-ce que la gravité ?"],
    "es": ["¿Por qué el cielo es azul?", "¿Quién fue Cervantes?"],
    "pt": ["Por que o céu é azul?", "O que é a gravidade?"],
    "nl": ["Waarom is de lucht blauw?", "Hoe werkt een fiets?"],
    "pl": ["Dlaczego niebo jest niebieskie?"],
    "tr": ["Gökyüzü neden mavi?"],
    "id": ["Mengapa langit berwarna biru?"],
    "vi": ["Tại sao bầu trời màu xanh?"],
    "ru": ["Почему небо голубое?", "Что такое гравитация?"],
    "ar": ["لماذا السماء زرقاء؟"],
    "hi": ["आसमान नीला क्यों है?"],
    "zh": ["天空为什么是蓝色的？", "什么是重力？"],
    "ja": ["なぜ空は青いのですか？"],
    "ko": ["하늘은 왜 파래?"],
}
ANSWERS = {"en": ENGLISH, "de": GERMAN, "fr": FRENCH, "es": SPANISH, "zh": CHINESE, "ru": RUSSIAN, "ja": JAPANESE}
PAIRS = [(question, code) for code, questions in SHORT_QUESTIONS.items() for question in questions]


@pytest.mark.parametrize(("question", "code"), PAIRS)
def test_a_short_question_tells_which_language_is_wrong(question: str, code: str) -> None:
    found = {other for other, answer in ANSWERS.items() if language.check(answer, CheckContext(prompt=question))}
    assert found == ANSWERS.keys() - {code}


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
    "bare code in foreign words": ("foreach (eintrag in liste) { zeige(eintrag.wert); summe += wert_von(eintrag); zähle(liste); }", CheckContext(prompt=QUESTION)),
    "quoted sentence": (ENGLISH + f" The poem begins “{GERMAN}”", CheckContext(prompt=QUESTION)),
    "quoted block": (ENGLISH + f"\n> {FRENCH}\n", CheckContext(prompt=QUESTION)),
    "short answer": ("Oui, bien sûr.", CheckContext(prompt=QUESTION)),
    "names": ("München, Köln, Düsseldorf", CheckContext(prompt=QUESTION)),
    "translation": (GERMAN, CheckContext(prompt="Translate this text for my friend, please: " + ENGLISH)),
    "question about a language": (FRENCH, CheckContext(prompt="How would I say in French how the rain is made?")),
    "short question": (GERMAN, CheckContext(prompt="Regen?")),
    "no question": (GERMAN, CheckContext()),
    "close relative in another script": (HINDI, CheckContext(prompt=QUESTION, language="ur")),
    "close relative": ("Den varme luften stiger opp fra havet og blir kald. Dampen blir til små dråper med vann.", CheckContext(language="da")),
    "json": ('{"antwort": "Der Regen fällt auf die Berge und auf das Meer."}', CheckContext(prompt=QUESTION, answer_format="json")),
    "table of numbers": ("| 12 | 13 | 14 |\n| 22 | 23 | 24 |\n" * 5, CheckContext(prompt=QUESTION)),
    "link": ("https://example.com/ein/langer/pfad/mit/deutschen/worten/darin/und/mehr", CheckContext(prompt=QUESTION)),
}  # fmt: skip


@pytest.mark.parametrize("name", PASSED)
def test_the_right_language_or_doubt_passes(name: str) -> None:
    text, context = PASSED[name]
    assert language.check(text, context) == ()


@pytest.mark.parametrize(
    "sentence",
    ["Das ist aber gar nicht so einfach.", "Но это совсем не так просто.", "但是这一切其实并不是那么简单的。"],
)
def test_one_foreign_sentence_of_many_is_found_where_it_stands(sentence: str) -> None:
    text = f"{ENGLISH} {sentence} {ENGLISH} {ENGLISH} {ENGLISH}"
    (finding,) = language.check(text, CheckContext(prompt=QUESTION))
    assert finding.span is not None
    assert text[slice(*finding.span)] == sentence


def test_a_foreign_sentence_may_end_with_a_quote_and_stand_without_spaces() -> None:
    sentence = 'Am anderen Morgen sagte er zu mir: "It rains."'
    for before, foreign, after, prompt in (
        (f"{ENGLISH} ", sentence, f" {ENGLISH * 3}", QUESTION),
        (JAPANESE, "The distinction has practical consequences.", JAPANESE * 2, "雨はどのようにしてできるのですか？"),
    ):
        (finding,) = language.check(before + foreign + after, CheckContext(prompt=prompt))
        assert finding.span == (len(before), len(before + foreign))


LEFT_IN = {
    "behind a quote at the begin of a line": ('"It rains," said the child. ', "Das ist aber gar nicht so einfach.", "", QUESTION),
    "reporting a quote": ("", '"Es regnet heute wieder", sagte sie leise.', "", QUESTION),
    "english reporting a quote": ("", '"It has been raining all day," she told him.', "", GERMAN),
    "in a quote that goes on otherwise": ('The child said: "', "Das ist aber gar nicht so einfach.", ' It has been raining all day."', QUESTION),
    "before a closing quote mark": ("", "Das ist aber gar nicht so einfach.", f'" {ENGLISH}', QUESTION),
    "in which the detector sees a little english": ("", "Hujan mengisi satu danau kecil dan kering.", "", QUESTION),
    "english of which the detector is hardly sure": ("", "Lift pans, turn vents inward, drain lentils, and serve hot.", "", GERMAN),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT_IN)
def test_a_foreign_sentence_is_found_beside_quotes_and_where_its_language_is_hardly_sure(name: str) -> None:
    before, sentence, after, prompt = LEFT_IN[name]
    answer = GERMAN if prompt == GERMAN else ENGLISH
    text = f"{answer * 3}\n{before}{sentence}{after}\n{answer * 3}"
    (finding,) = language.check(text, CheckContext(prompt=prompt))
    assert finding.span is not None
    assert text[slice(*finding.span)].strip('" ') == sentence.strip('" ')


OTHERS = {
    "in quotes that another language reports": f'"{GERMAN}" he says. "Bonjour à tous, mes amis!" laughed old Pierre.',
    "in quotes that a name reports": '"Llego muy tarde esta mañana", murmured Señora García.',
    "in quotes that a name of a third language reports": '"Je suis en retard ce matin!" grinned José solo.',
    "a line of data": "License MIT\nFiles Harald Welte Copyright Harald Welte\n",
    "in quotes with other foreign sentences": f'He said: "{GERMAN} {GERMAN}"',
    "in quotes": f'The Germans say "{GERMAN}" and mean it.',
    "in single quotes": f"The Germans say '{GERMAN}' and mean it.",
    "in italics": f"The poem begins so. *{GERMAN}*",
    "in a line of a table": f"| German | English |\n|---|---|\n| {GERMAN} | rain |",
    "in a quoted line": f"> {GERMAN}\n",
    "in code": f"```\n{GERMAN}\n```",
    "without an end mark": "der warme Dampf des Meeres",
    "a title": "Der Regen Kommt Über Die Berge. La Lluvia Sobre Los Montes.",
    "the ancients": "Non scholae sed vitae discimus omnes.",
    "a few words of no clear language": "Chemical symbol for tungsten.",
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_cited_or_a_name_is_no_sentence_of_the_answer(name: str) -> None:
    text = f"{ENGLISH} {ENGLISH}\n\n{OTHERS[name]}\n\n{ENGLISH} {ENGLISH}"
    assert language.check(text, CheckContext(prompt=QUESTION)) == ()


RIGHT = {
    "a foreign name of several words": ("Rio de Janeiro carnival dates?", ENGLISH),
    "a foreign term": ("Monter au beurre?", ENGLISH),
    "a name": ("Who wrote Faust?", "Johann Wolfgang von Goethe."),
    "two long words": ("What is the longest word?", "donaudampfschifffahrtselektrizitätenhauptbetriebswerk bauunterbeamtengesellschaft."),
    "a citation": ("How does the novel begin?", "“En un lugar de la Mancha, de cuyo nombre no quiero acordarme, vivía un hidalgo.”"),
    "figures": ("How long are the stages?", "12,5 km, 13,7 km, 14,9 km, 22,5 km, 33,7 km, 48,1 km."),
    "a title": ("What is the main work of Proust?", "À la recherche du temps perdu"),
    "a list of titles": (
        "¿Qué canciones de los Beatles me recomiendas?",
        "1. Let It Be\n2. Here Comes the Sun\n3. While My Guitar Gently Weeps\n4. A Day in the Life",
    ),
    "a greeting": ("Hallo", "Hallo! Wie kann ich dir heute helfen? Frag mich einfach, was du wissen willst."),
    "a word in one of several languages": ("Рецепт борщу", "Наріжте буряк і капусту, а потім варіть їх годину на малому вогні."),
    "a question in one of several languages": ("Хто такий Шевченко?", "Він поет і художник, якого знає вся країна і весь світ."),
    "ideographs of either language": ("富士山", JAPANESE),
    "a dish": ("Schwarzwälder Kirschtorte", "Bake a chocolate sponge, soak it, and layer it with cream and cherries."),
    "a foreign name in the question": ("La Sagrada Familia facts", "The church was begun in 1882 and is still not finished."),
    "the language of a text to be summed up": (f"Summarise: {GERMAN}", ENGLISH),
    "the language of the summary": (f"Summarise: {GERMAN}", GERMAN),
    "a quote in the question": ("Was heißt 'the early bird catches the worm'?", "Wer früh beginnt, der erreicht am meisten."),
    "a quote to be explained": (
        "What does “Der Regen fällt auf die Berge” mean, and how does the song go on?",
        f"{ENGLISH * 3} Der Regen fällt auf die Berge und füllt die Flüsse.",
    ),
    "a question that looks like another language": ("Wie was Rembrandt?", "Rembrandt was een schilder uit Leiden die vooral licht en schaduw kon vangen."),
    "another script in the question": (
        "I saw a sign with 立ち入り禁止 at the station yesterday, next to the exit; what does it mean?",
        f"{ENGLISH * 3} 駅の中に入ってはいけません。今日は朝からずっと雨が降っています。",
    ),
    "a letter to be answered": ("Please reply to this mail:\n\nBonjour, quand est-ce que ma commande sera livrée ?", "Bonjour, votre commande sera livrée mardi."),
    "sayings": ("Which proverb is about rain?", f"{ENGLISH * 3} Auf Regen folgt immer wieder Sonnenschein."),
    "a named language": ("Write a German poem about the rain.", GERMAN),
    "other languages": ("Say in three different languages that it rains.", f"{ENGLISH} {FRENCH} {SPANISH}"),
    "no letters": ("2+2?", "二加二等于四，这是每个孩子很早就知道的事情。"),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_an_answer_in_a_language_that_may_be_wanted_passes(name: str) -> None:
    prompt, text = RIGHT[name]
    assert language.check(text, CheckContext(prompt=prompt)) == ()


def test_a_language_named_by_the_operator_or_an_earlier_turn_is_allowed() -> None:
    assert language.check(GERMAN, CheckContext(prompt=QUESTION, system="Always answer in German.")) == ()
    assert language.check(GERMAN, CheckContext(prompt=QUESTION, known_text=f"Please use German. {QUESTION}")) == ()
    assert language.check(FRENCH, CheckContext(prompt=QUESTION, system="Always answer in German.")) != ()
    assert language.check(FRENCH, CheckContext(prompt=QUESTION, system="Do not mix different languages.")) != ()


def test_languages_that_are_alike_are_taken_together() -> None:
    assert detect("Saya tinggal di sebuah rumah kecil di tepi pantai.")[0] == "id"
    assert detect(CHINESE)[0] == "zh"
    assert detect("植物喜欢明亮的散射光，放在太暗的角落或者被太阳直晒都不好。")[0] == "zh"
    assert detect(JAPANESE)[0] == "ja"


def test_a_short_answer_of_many_abbreviations_is_measured_by_its_own_words() -> None:
    text = f"Nr. 3. {GERMAN} {GERMAN} Nr. 4. It is so."
    assert language.check(text, CheckContext(prompt="Erkläre mir bitte, wie der Regen entsteht.")) == ()


@pytest.mark.parametrize("mark", ["\u200b", "\u202e", "\ud800"])
def test_invisible_marks_and_broken_characters_change_nothing(mark: str) -> None:
    assert language.check(f"{mark}{GERMAN}{mark}", CheckContext(prompt=QUESTION)) != ()
    assert language.check(f"{mark}{ENGLISH}{mark}", CheckContext(prompt=QUESTION)) == ()


@pytest.mark.parametrize(
    ("text", "is_sentence", "is_foreign"),
    [
        ("Regen und Sonne in Welte.", True, True),
        ("Files Harald Welte.", True, False),
        ("Regen und Sonne in Welte", False, False),
    ],
)
def test_beside_a_little_english_only_a_sentence_with_a_common_word_is_foreign(
    text: str, is_sentence: bool, is_foreign: bool
) -> None:
    piece = Piece(0, text, is_sentence, "de", {"de": 0.6, "en": 0.12})
    assert piece.is_foreign("en") == is_foreign
    assert not piece._replace(chances={"de": 0.6, "en": 0.3}).is_foreign("en")
