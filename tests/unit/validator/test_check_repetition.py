"""The repetition check: loops, and the texts that repeat on purpose."""

import pytest

from deployments.validator.checks import repetition
from graph.contracts import CheckContext

SENTENCE = "The water rises from the sea and falls on the hills. "
PARAGRAPH = (
    "Heat from the sun lifts vapour from oceans and lakes, which cools as it rises and forms clouds. "
    "Wind carries these clouds over mountains where droplets join and fall as rain on forests and fields. "
)

# Sentences that have nothing in common, about 170 words.
OTHERS = [
    "Small drops join into bigger ones until the air can no longer carry them.",
    "Some of the rain runs off the fields and reaches the nearest stream within hours.",
    "Another part sinks into the ground, where roots take it up again during summer.",
    "Trees give it back through their leaves, so forests make clouds of their own.",
    "In cold places it falls as snow and may stay on a mountain for a thousand years.",
    "Glaciers grind the rock below them to flour, which colours many lakes turquoise.",
    "Rivers carry sand and mud down to their mouths and build new land out there.",
    "People have changed this journey with dams, wells, canals and sealed streets.",
    "A city without gardens sends nearly every shower straight into its sewers.",
    "That is why planners now dig ponds beside car parks and plant grass on roofs.",
    "The oceans receive what is left, a little saltier than when it departed.",
    "From their surface, warmed each morning, everything begins once more.",
]
LONG = " ".join(OTHERS)
CLAIM = "The lesson is that evidence must be weighed against how common the thing was at first."
NEAR_COPIES = (
    "The lesson is that evidence must be weighed beside how common the thing was at first. "
    "The lesson is that evidence can be weighed against how common the rain was at first. "
    "The moral is that evidence must be weighed against how common the thing seemed at first."
)
BLOCK = "- Take the bread out of the oven\n- Let it cool on the rack for an hour\n- Cut it with a long knife, not a short one"
SHORT = "- Eat some butter with it\n- Keep the rest in a cloth\n- Never in the fridge"

CAUGHT = {
    "passages again between semicolons in several sentences": " ".join(OTHERS[:8])
    + f" It is so; it was so; {', and '.join(sentence[1:-1] for sentence in OTHERS[:6])}.",
    "sentence three times inside a long answer": f"{LONG} {CLAIM} {CLAIM} {CLAIM} {LONG.lower()[::-1]}",
    "near copies of a sentence": f"{LONG} {CLAIM} {NEAR_COPIES} Nobody doubts it.",
    "sentence with an abbreviation": f"{LONG} "
    + "Use a test, e.g. one that asks nine short questions in a row. " * 3
    + "Nobody doubts it.",
    "sentence with bars": f"{LONG} It is P(a | b) = P(b | a) P(a) / P(b). {CLAIM} {CLAIM} {CLAIM} Nobody doubts it.",
    "sentence with a time of day": "The alarm rang at 2:40, which nobody in the house had wanted. " * 3 + LONG,
    "sentence in a list inside a list": f"1. {OTHERS[0]}\n    - {CLAIM} {CLAIM} {CLAIM}\n2. {OTHERS[1]}",
    "chinese sentence inside an answer": f"{LONG} " + "河水最后流进大海里。" * 3 + " Nobody doubts it.",
    "item of a list again and again": f"{OTHERS[0]}\n\n"
    + "\n".join(f"{number}. {CLAIM}" for number in range(1, 6))
    + f"\n\n{OTHERS[1]}",
    "paragraph twice in a long answer": f"{PARAGRAPH}\n\n{LONG}\n\n{LONG[::-1]}\n\n{PARAGRAPH}\n\n{OTHERS[0]}",
    "paragraph of a list twice": f"{BLOCK}\n\n{SHORT}\n\n{BLOCK}",
    "items with one long opening": "\n".join(
        f"- The scheme keeps letters secret without any sums, like this: when people want to send {what}"
        for what in ["a note, they lock it.", "a gift, she looks.", "his key!", "her name.", "it far away, nobody."]
    ),
    "short sentences here and there": (
        "One step is just one! I will help you with the tube. One step is just one! Do not use the pump. One step IS "
        "just three! Find the hole. One STEP is just one! Mind the valve. One step is just three!"
    ),
    "phrase twice in one sentence after the other": (
        "When you use extra virgin olive oil, buy extra virgin olive oil. The taste of extra virgin olive oil is what "
        "makes extra virgin olive oil. Nobody who has extra virgin olive oil fries with extra virgin olive oil."
    ),
    "short word without spaces": f"{LONG} " + "of" * 24,
    "loop behind a table": "| place | rain |\n|---|---|\n| coast | much |" + " Everyone sits down |" * 6,
    "glued loop behind a table": "| place | rain |\n|---|---|\n| coast | much | " + "rain" * 24,
    "sentence loop": SENTENCE * 5,
    "sentence loop after a good start": PARAGRAPH + SENTENCE * 4,
    "sentence loop that was cut": PARAGRAPH + SENTENCE * 4 + "The water rises from",
    "paragraph loop": (PARAGRAPH + "\n\n") * 3,
    "phrase loop": "It is important " + "to note that it is important " * 8,
    "word loop": "The answer is " + "very " * 30 + "long.",
    "token loop": "The answer is " + "the" * 60,
    "character loop": "No" + "o" * 200,
    "far copies": PARAGRAPH + "Some other words stand here in between. " + PARAGRAPH,
    "list loop": "- Buy milk and bread at the store\n" * 12,
    "chinese loop": "水从海里升起然后落在山上。" * 6,
}


@pytest.mark.parametrize("name", CAUGHT)
def test_a_loop_is_found(name: str) -> None:
    (finding,) = repetition.check(CAUGHT[name], CheckContext())
    assert finding.severity == "soft"


CHORUS = (
    "Oh carry me home to the valley below,\nwhere the lanterns are lit and the river runs slow,\n"
    "the kettle is singing, the table is spread,\nand there's always a blanket at the foot of the bed.\n"
)
VERSES = (
    "The morning was grey when I packed up my coat,\nthe harbour was silent, I boarded the boat.\n",
    "The city was louder than I had been told,\nthe rooms they were narrow, the breakfasts were cold.\n",
    "Now seven long winters have silvered my hair,\nthe boat's at the landing, I've paid the last fare.\n",
)

PASSED = {
    "table of long rows": "\n".join(
        f"| {week} | {task} in the first part of the lesson, then questions | {aim} with a partner, then alone |"
        for week, (task, aim) in enumerate(
            [
                ("folding", "cut it"),
                ("sewing", "press it"),
                ("gluing", "bind it"),
                ("drilling", "trim it"),
                ("rounding", "sew it"),
                ("lining", "line it"),
                ("casing", "case it"),
            ]
        )
    ),
    "beats that are counted": "One two three, one two three, one two three, one two three, one two three.",
    "clauses of a contract": "; ".join(
        f"no {who} of the Company shall at any time disclose any part of the Information to any third party"
        for who in ("employee", "contractor", "adviser", "former owner of any part or")
    )
    + " for three years after the work has ended.",
    "song with a chorus": "\n".join(f"{verse}\n{CHORUS}" for verse in VERSES),
    "exercises of one pattern": "\n".join(
        f"- **{day}:** {what}. Do three sets of ten, with a minute of rest between the sets."
        for day, what in [("Monday", "Squats"), ("Tuesday", "Rows"), ("Wednesday", "Dips"), ("Thursday", "Planks")]
    ),
    "recipe whose days are alike": "1. Mix flour and water, and leave the bowl at room temperature for one whole day.\n"
    + "2. Throw half of it away, add flour and water, and leave it at room temperature for one day.\n" * 3
    + "5. Bake it.",
    "drill": " ".join(
        f"{who} been to the sea once before." for who in ("I have", "You have", "He has", "She has", "We have")
    ),
    "clauses of one making": (
        "The tenant shall not sublet the flat without the written consent of the landlord. The tenant shall not keep "
        "dogs without the written consent of the landlord. The tenant shall not paint the walls without the written "
        "consent of the landlord. The tenant shall pay on the first of the month."
    ),
    "figure of three": (
        "When the harvest failed that year, they asked the old river. When the well ran dry that year, they asked the "
        "old river. When the children were ill that year, they asked the old river."
    ),
    "survey": "\n\n".join(
        f"{number}. {what}\n   - Strongly disagree\n   - Disagree\n   - Neither agree nor disagree\n   - Agree"
        for number, what in enumerate(["The rooms were clean.", "The staff was kind.", "I would come again."], 1)
    ),
    "long laughter": "He laughed: hahahahahahahahahaha, and then aaaaaaaaaaaaaaaaaaaaaaargh!",
    "prose": PARAGRAPH,
    "code": "```python\n" + "print('the same line again and again and again')\n" * 20 + "```",
    "indented code": "Like so:\n\n" + "    x = compute(x, y, z, a, b, c, d, e, f)\n" * 10,
    "table": "| name | unit | value |\n|---|---|---|\n" + "| rain | millimetres per square metre | 0 |\n" * 15,
    "poem with a refrain": (
        "The ship goes out at dawn of day\nand no one waves from shore\n"
        "Oh roll the waves, oh roll away\nand bring me back once more\n\n"
        "The gulls are crying overhead\nthe harbour lights are gone\n"
        "Oh roll the waves, oh roll away\nand bring me back once more\n\n"
        "The winter came, the sails were torn\nwe prayed upon the floor\n"
        "Oh roll the waves, oh roll away\nand bring me back once more\n"
    ),
    "list with one opening": "\n".join(
        f"- The price of {item} is not known yet" for item in ["tea", "milk", "rice", "salt"]
    ),
    "rhetoric": "No, no, no! That is not what I said, and you know it.",
    "laughter": "Hahahahaha, that was a good one.",
    "row of zeros": "The matrix is 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 in each of its rows.",
    "rule": "-" * 200 + "\nA heading between two rules\n" + "=" * 200,
    "short": "Yes. Yes.",
    "clauses with one opening": "\n".join(
        f"{number}. The tenant shall not, without the written consent of the landlord given in advance, {what}"
        for number, what in enumerate(["sublet the flat.", "keep a dog.", "paint the walls.", "change locks."], 1)
    ),
    "addresses": "\n".join(
        f"- https://example.com/{'averylongpathtothefilesoftheproject' * 2}/{name}"
        for name in ("rain", "snow", "hail", "fog", "dew", "ice")
    ),
    "ratios": (
        "Divide the number of hits by the number of shots. Then divide the number of goals by the number of hits. "
        "Last, divide the number of wins by the number of games."
    ),
    "term in every sentence": (
        "Extra virgin olive oil is pressed cold. Extra virgin olive oil keeps a year. Extra virgin olive oil is green, "
        "and extra virgin olive oil may be bitter."
    ),
    "ratios with long words": (
        "Divide the total number of large hits by the total number of large shots. Then divide the total number of "
        "large goals by the total number of large hits. Last, divide the total number of large wins by the total "
        "number of large games."
    ),
    "short answers": (
        "Is the pump on? Yes, it is. Is the valve shut? Yes, it is. Did you look for the hole in the tube? Yes, I did. "
        "Was the tyre old? Yes, it was. Is it in the shed? Yes, it is. Did you ask for another? Yes, I did."
    ),
    "verse with a phrase twice in a line": (
        "Green grass grows high, green grass grows low,\nand the river runs slow.\nGreen grass grows here, green grass "
        "grows there,\nand the wind is in my hair.\nGreen grass grows young, green grass grows old,\nand the story "
        "has been told."
    ),
    "answer with one sentence twice": (
        "It is not your fault. The pump was old and the valve was stuck for years. It is not your fault. Call them "
        "tomorrow and ask for a new one. It is not your fault."
    ),
    "quoted question": "You ask why water rises from the sea. Water rises from the sea because the sun heats it.",
}


@pytest.mark.parametrize("name", PASSED)
def test_what_repeats_on_purpose_passes(name: str) -> None:
    assert repetition.check(PASSED[name], CheckContext()) == ()


def test_a_loop_that_the_engine_stopped_is_found() -> None:
    (finding,) = repetition.check(PARAGRAPH, CheckContext(finish_reason="repetition"))
    assert finding.severity == "soft"


def test_a_loop_in_an_answer_that_the_caller_keeps_running_is_a_note() -> None:
    (finding,) = repetition.check(SENTENCE * 5, CheckContext(caller_limited=True))
    assert finding.severity == "note"


@pytest.mark.parametrize(
    "prompt",
    [
        'Write lines like a pupil: "The water rises from the sea and falls on the hills", five times.',
        "Make a breathing script, four rounds of it.",
        "A mantra about water, please.",
        "Say it over and over.",
    ],
)
def test_a_loop_that_was_asked_for_is_a_note(prompt: str) -> None:
    (finding,) = repetition.check(SENTENCE * 5, CheckContext(prompt=prompt))
    assert finding.severity == "note"


@pytest.mark.parametrize(
    "prompt", ["Where does rain come from?", "Is it true that it rained three times?", "Write about the water cycle."]
)
def test_a_loop_that_was_not_asked_for_is_none(prompt: str) -> None:
    (finding,) = repetition.check(SENTENCE * 5, CheckContext(prompt=prompt))
    assert finding.severity == "soft"


@pytest.mark.parametrize(
    ("before", "repeats", "after"),
    [
        (f"{LONG} {CLAIM} ", f"{NEAR_COPIES} Nobody doubts it.", f"\n{OTHERS[0]}"),
        (f"{OTHERS[0]}\n- {CLAIM}\n", "\n".join([f"- {CLAIM}"] * 3), f"\n{OTHERS[1]}"),
        (f"{PARAGRAPH.strip()}\n\n{LONG}\n\n", PARAGRAPH.strip(), f"\n\n{OTHERS[0]}"),
        (f"{LONG} ", "of" * 24, ""),
        ("The answer is ", "very " * 29 + "very", " long."),
        ("| place | rain |\n|---|---|\n| coast | rain |", " coast | rain |" * 8, ""),
    ],
)
def test_the_place_of_the_repeats_is_told(before: str, repeats: str, after: str) -> None:
    (finding,) = repetition.check(before + repeats + after, CheckContext())
    assert finding.span is not None
    assert (before + repeats + after)[slice(*finding.span)].strip() == repeats.strip()


def test_the_repeated_tail_begins_with_its_second_copy() -> None:
    text = PARAGRAPH + SENTENCE * 4
    tail = repetition.find_repeated_tail(text)
    assert tail is not None
    assert text[: tail[0]] == PARAGRAPH + SENTENCE
