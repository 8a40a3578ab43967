"""The truncation check: cut answers, and the many that rightly end without a full stop."""

import time

import pytest

from deployments.validator.checks import truncation
from graph.contracts import CheckContext

LEAD = "Rain falls when warm air rises and cools. Clouds form out of tiny drops. "

CAUGHT = {
    "mid-sentence": LEAD + "After some hours the drops are heavy enough to",
    "mid-word": LEAD + "After some hours the drops are heavy enough to fa",
    "after a comma": LEAD + "After some hours, when drops are heavy,",
    "after a colon": LEAD + "The three kinds of clouds are:",
    "open bracket": LEAD + "The drops are heavy (",
    "open code block": "Run this:\n\n```python\nprint('hello')\nfor x in range(",
    "open code block of tildes": "Run this:\n\n~~~\nmake\n",
    "dangling conjunction in a list": "- rain and wind and clouds\n- snow in the mountains and",
    "chinese": "水循环在海洋、大气和陆地之间移动水分。太阳的热量使水蒸发并形成云然后风把云带到很远的地方去",
    "first words of a new paragraph": LEAD + "\n\nHowever, the b",
    "before the last words of a paragraph after a list": "- rain\n- snow\n\nBoth of them begin as small drops in the cold air",
    "a few words after a list": "- rain and sleet\n- snow and hail\n\nSome clouds bring both",
    "a few words after a table": "| month | rain |\n|---|---|\n| May | 60 |\n\nThe driest month",
    "row without its last cells": "| month | rain | snow |\n|---|---|---|\n| May | 60 | 0 |\n| June | 4",
    "item of a list whose items end in full stops": "- Rain falls in drops.\n- Snow falls in flakes.\n- Hail falls in lumps of",
    "item without the label that all others have": "- Rain: drops of water\n- Snow: flakes of ice\n- Hail",
    "item much shorter than all others": "- the rain that falls in the long winter months\n- the snow that lies on the hills until May\n- the hail",
    "preposition": "- rain on the coast\n- snow in the hills near the towns of",
    "preposition far behind a clause": "- place it upside down in the oven at 230 degrees for\n",
    "first word after a comma": "- keep the lid on the pot\n- wait until it boils, with",
    "pronoun that begins a clause": "- rain on the coast\n- a coat for the rain that you",
    "contraction": "- what we have had so far\n- what you should take with you because it's",
    "word of a list that is not whole": "- rain in the hills and on the coast\n- snow in the mounta",
    "verse in sentences": "The rain is on the roof tonight.\nThe street is dark and long.\n\nThe lamp is low, the moon is bright\nand nobody has gone",
    "wish of a letter": "Dear Ada,\n\nThank you for the report. It was just what we had been waiting for.\n\nI look forward to",
    "item without the comma that all others have": "- rain, on the coast\n- snow, in the hills\n- hail, in May\n- fog",
    "item half as long as those of a long list": "- the rain that falls on the coast all winter\n- the snow that lies on the hills until May\n- the fog that fills the valley each morning\n- the hail of summer",
    "item far shorter than all but one": "- the rain that falls on the coast all winter\n- the snow that lies on the hills until May\n- fog\n- the wind that comes from the sea at night\n- the dew that covers the grass each morning\n- the hail",
    "one item of a list that is announced": "These are the kinds of clouds:\n\n- low clouds over the coast",
    "adjective behind an article": "- rain on the coast and the hills\n- snow in a small",
    "no behind a preposition": "- the coast with some rain\n- the hills with no",
    "any behind a comparison": "- rain on the coast and the hills\n- snow as deep as any",
    "not behind a verb": "- rain falls on the coast\n- the snow of the hills does not",
    "will behind a noun": "- rain falls on the coast\n- the snow in the hills will",
    "can behind a plural": "- rain falls on the coast\n- the towns in the hills can",
    "verb with an object": "- rain on the coast\n- snow in the hills that gives\n- a coat with a hood includes",
    "pronoun behind so": "- keep the coat at the door so you",
    "article behind a semicolon": "- rain on the coast with the wind from the sea; a",
    "times": "- two sets of 8 × 2\n- three sets of 6 ×",
    "title that ends with a particle": LEAD + "\n\nDaedalus la",
    "fragment behind a number": "- turn to the left by 45 degr",
    "sentence that begins with a number": "1.5 km of swimming, 40 km of cycling and 10 km of running, in that order and with the clock ticking",
    "postscript in sentences": "Dear Ada,\n\nThank you for the report.\n\nYours,\nMax\n\nP.S. The dog is well. Please tell her",
    "bars with a short last one": "one two three | one two three | one two three | one",
    "english by its rarer words": "- clouds carry their drops through valleys\n- snow falls in a small",
    "semicolon": LEAD + "In summer the air is warm and holds much water;",
    "open bracket in an item": "- rain on the coast\n- snow in the hills (above the trees",
    "lead-in": LEAD + "\n\nFor example:",
    "open bold in an item": "- rain on **the coast**\n- snow in **the hills",
    "open quotation in an item": '- rain, or "wet stuff"\n- snow, or "white stuff',
    "row without outer marks": "month | rain | snow\nMay | 60 | 0\nJune | 4",
    "before invisible characters": LEAD + "\n\nThe drops are heavy enough\n\u200b",
    "letter after its salutation": "Dear Ada,\n\nI thank you for the long report about the harbour",
    "open bold": LEAD + "The most important point is **the tempera",
    "open quotation": LEAD + 'She looked up and said: "It rains',
    "json": '{"rain": [1, 2, 3], "snow": [4,',
    "german": LEAD + "Danach fallen die Tropfen auf die Erde und fließen in die",
}


@pytest.mark.parametrize("name", CAUGHT)
def test_a_cut_answer_is_found(name: str) -> None:
    (finding,) = truncation.check(CAUGHT[name], CheckContext())
    assert finding.severity == "soft"


PASSED = {
    "signature of several": "Dear customers,\n\nThank you for sharing the risk. It makes a farm like ours possible.\n\n"
    "Nadia and the field team",
    "long valediction": "Dear Ms. Low,\n\nWe hope there is a wall with a bit of space on it.\n\n"
    "With warm thanks from all of us,\nMs. Hartley and the fourth grade",
    "name that begins a word": "Dear Gran,\n\nThank you, with all my heart.\n\nLots of love,\nIsla",
    "word that begins another": LEAD + "In short:\n\n- *haar*: sea mist\n- *reek*: smoke\n- *smirr*: fine mist",
    "chat": "ngl that lecture lowkey slapped, prof was cooking 🔥 but the exam?? yeah we're so cooked no cap",
    "solutions": "1. Molten rock inside the Earth is called ____.\n2. It becomes ____.\n\n"
    "**Solutions:** 1 magma, 2 lava, 3 crater, 4 dormant, 5 fire, 6 ash",
    "sum behind labelled items": "- Odd places: 4 + 0 + 3 = 7\n- Even places: 0 + 6 + 8 = 14\n- Sum: 7 + 42 = 49\n- 50 − 49 = 1",
    "full sentences": LEAD,
    "one word": "Paris",
    "short answer": "42 kilometres per hour",
    "quotation": LEAD + 'She said: "It rains."',
    "bold end": LEAD + "**That is all.**",
    "emoji": LEAD + "Now you know all there is to know about the rain ☔",
    "list without stops": "Pack this:\n\n- a warm coat for the evening hours in the mountains\n- boots\n- a map of the northern part of the long valley",
    "numbered list": "1. Boil the water in a large pot with a little salt\n2. Add the pasta and stir it once or twice a minute",
    "things to look for": "- the price you pay\n- the size and colour that you are looking for",
    "table": "| month | rain in mm per square metre of land |\n|---|---|\n| May | 60 of the usual eighty in the year |",
    "closed code block": "Run this:\n\n```python\nprint('hello')\n```",
    "nested fences": "````md\n```python\nx = 1\n```\n````",
    "poem": "The rain falls on the roof tonight\nand no one counts the hours\nthe street is dark, the lamp is bright\nit drums upon the flowers",
    "signature": "Dear Ada,\n\nThank you for the report.\n\nBest regards,\nThe team of the harbour office",
    "closing line": "Thank you for the report.\n\nBest regards,",
    "wish that begins with big": "Dear Granny,\n\nThe sea is warm. We swim each day.\n\nBig hugs and a shell from me",
    "kisses": "Dear Granny,\n\nThe sea is warm. We swim each day.\n\nMany kisses from all four of us",
    "name in a postscript": "Dear Ada,\n\nThank you for the report.\n\nYours,\nMax\n\nP.S. Bring the dog with you",
    "command at the end": LEAD + "Test it with `nginx -t` and then reload with `systemctl reload nginx`",
    "exercise with semicolons": "asdf jkl; asdf jkl;\naa ss dd ff jj kk ll ;;\nsad lad sad lad\na lad asks; a lass falls; a lad asks; a lass falls;",
    "bars": "**One** two three | **One** two three | **One** two three | **One** two three",
    "enumeration in two parts": "Woof, grrr, miaow, moo, baa, quack, ribbit; and for things: vroom, thwack, splat, bzzzt, clang",
    "watering can": "- a rake with a long handle\n- a bucket and a watering can",
    "last will": "- the papers of the house\n- the keys and your last will",
    "for and against": "- points for each side\n- a list of points for and against",
    "a must": "- the coat is for the rain\n- the hat with the brim is a must",
    "what is not": "- the things that are allowed and what is not",
    "one item that is announced as one": "Just bring this to the gate:\n\n- your passport and the ticket",
    "sub-item": "1. Mix these in the bowl:\n   - flour and water with a pinch of salt",
    "short end of a list with few commas": "- rain, on the coast\n- snow in the hills\n- hail, in May\n- fog",
    "heading": "Some text.\n\n## What to read next about rain in the mountains of Norway",
    "link": "Read this.\n\nhttps://example.com/a/very/long/path",
    "language name": "Use C++",
    "list after prose without stops": "Rain falls. Take these.\n\n- a coat\n- a hat for the sun\n- boots",
    "short items of different length": "- Preheat the oven\n- Grease the tin and line it with paper\n- Bake",
    "items with values": "- Sit-down restaurant: a fifth of the bill before tax\n- Bar: one or two dollars for a drink\n- Taxi: 10-15%",
    "questions and another item": "1. What would you take with you?\n2. Group work in fours, on cards",
    "clause that a preposition belongs to": "- the box it came in and what it is made of\n- someone whom you can talk to",
    "imperative with an adverb": "- Send the letter\n- Fill the form in",
    "gloss": "- **la** the\n- **y** and\n- **el** the",
    "articles": "- a\n- an\n- the",
    "a conjunction as an answer": "und",
    "vitamin": "- the sun, which makes vitamin D\n- the carrots, which hold vitamin A",
    "words that begin longer ones": "- a sleeping bag and mat\n- a jar for the bee\n- a word about the gene",
    "letters of the axes": "- the rain is on the axis y\n- the month is on the axis t",
    "value": "38.1 to 39.2 °C (about 100.5 to 102.5 °F)",
    "coordinates": "48.8584° N, 2.2945° E, or 48° 51′ 30″ N, 2° 17′ 40″ E in degrees, minutes and seconds",
    "enumeration": "apple, banana, cherry, date, fig, grape, lemon, mango, pear, quince",
    "names after prose": LEAD + "\n\nJoan of Arc",
    "title": "Why the Slow Train Is the Best Way to See Europe This Summer",
    "subject line": "Subject: Dietary needs of our guests for the 14 June party",
    "chords": "C – G – Am – F – C – G – F – C",
    "command": "SELECT name, COUNT(*) FROM orders WHERE total > 10 GROUP BY name",
    "statement": "let total = price * count;",
    "cipher": 'ROT13: `V nz tbvat gb gur fubc`\n\nPig Latin: "Iway amway oinggay otay ethay opshay"',
    "quoted notice": '"Dear residents, the water is off on Thursday. We apologise for the inconvenience. The caretaker"',
    "attribution": '"The only way to have a friend is to be one." - Ralph Waldo Emerson',
    "answer in bold after a colon": LEAD + "\n\n**Answer: 42**",
    "labelled value after prose": LEAD + "\n\nSource: the weather service",
    "opening hours": "Monday to Friday: 9 a.m. to 5 p.m.\nSaturday: 10 a.m. to 2 p.m.\nSunday: closed",
    "labelled lines": LEAD
    + "\n\nWeek 1: hands on a table or worktop, three sets of eight\nWeek 2: hands on a bench or a sturdy chair, three sets of six",
    "names in lines": "Here are some.\n" + "Nadia Smith\nNaomi Smith\nAna Smith\nAndrea Smith\nIsabel Smith\n" * 4,
    "forms": "Please fill this in.\n\nName:\nAddress:\nPhone:",
    "wishes of a letter": "Dear Mr Hall,\n\nThank you for all you did for us.\n\nWith warm thanks from a former back-row pupil",
    "french letter": "Bonjour Paul,\n\nMerci pour ton message. À bientôt.\n\nAmitiés\nClaire",
    "sign-off": LEAD + "\n\nBest of luck with the interview",
    "interrupted speech": '"Are you coming?" she asked.\n\nHe looked up and said quickly, "We are late, you kn—"',
    "blank to fill in": "Dear Ada,\n\nPlease sign here.\n\nI have read the rules of the house: ______",
    "whole json": '{"rain": [1, 2, 3], "snow": [4, 5, 6]}',
    "indented code": "Use this rule of a style sheet.\n\n    body { margin: 0 }",
    "german answer": "Das Wetter wird morgen besser, und der Regen hört auf.\n\n- die Sonne scheint und es fängt an",
    "invisible characters behind the end": LEAD + "\u200b\u202c\ufe0f \n\u200b",
    "thai": "ฝนตกเมื่ออากาศอุ่นลอยขึ้นและเย็นลง เมฆก่อตัวขึ้นจากหยดน้ำเล็กๆ",
    "chinese": "水循环在海洋、大气和陆地之间移动水分。",
    "thai in paragraphs": "Good morning, in Thai. This is it.\n\nฝนตกเมื่ออากาศอุ่นลอยขึ้นและเย็นลง เมฆก่อตัวขึ้นจากหยดน้ำเล็กๆ และลมพัดพาไป",
    "hindi": "पानी समुद्र, हवा और ज़मीन के बीच घूमता रहता है और यह कभी नहीं रुकता।",
}


@pytest.mark.parametrize("name", PASSED)
def test_a_whole_answer_passes(name: str) -> None:
    assert truncation.check(PASSED[name], CheckContext()) == ()


@pytest.mark.parametrize(
    "text", ["- the rain and the snow\n- : to", "- the rain and the snow\n- ?! for", "the, and ... of"]
)
def test_a_line_of_marks_and_one_word_is_judged(text: str) -> None:
    truncation.check(text, CheckContext(language="en"))


TOLD = "This is what you need to know when you are at the sink. "

FORCED = {
    "conjunction": TOLD + "You can clear it with a brush or.",
    "article": TOLD + "It is always giving us a!",
    "article in a question": TOLD + "As a result, an?",
    "possessive": TOLD + "Then you can go on with your.",
    "conjunction of a clause": TOLD + "It is slow because!",
    "pronoun that begins a clause": TOLD + "Use something that they.",
    "contraction": TOLD + "What's?",
    "letter after a modal verb": TOLD + "Take the trap off, which could t.",
    "hyphen": TOLD + "You save time when you are working on-.",
    "space before the mark": TOLD + "But you must ensure that !",
    "comma before the mark": TOLD + "There was a significant shift, .",
    "quotation": '1. This is a tip for the sink.\n2. That is now just "in.\n3. Use the brush.',
    "quotation at the end": TOLD + 'It is now said to be "in.',
    "curly quotation": TOLD + "It is now said to be “in.",
    "marks doubled and emphasis": TOLD + "*You can clear it with a brush or!!*",
    "item before others": f"- {TOLD}\n- You can clear the sink with the.\n- Then rinse it.",
    "item without a mark before others": "1. This is for you.\n2. The process is to find out how many tons there are, with tables or calculators with\n3. That is it.",
    "item with an open quotation before others": '- Use what you have for the sink, such as the "brush\n- This is for you.',
    "json without a fence": 'Sure!\n{\n  "data": {\n    "name": "Ava",\n    "class:" + ".',
}


@pytest.mark.parametrize("name", FORCED)
def test_a_line_that_breaks_off_before_its_end_mark_is_found(name: str) -> None:
    (finding,) = truncation.check(FORCED[name], CheckContext())
    assert finding.severity == "soft"


ENDED = {
    "preposition": TOLD + "It is what the brush is for.",
    "auxiliary": TOLD + "Not everyone could, but you may.",
    "anything but": TOLD + "It was anything but.",
    "just because": TOLD + "Why did you do it? Just because.",
    "question with a conjunction": TOLD + "Do you want tea, or?",
    "exclamation": TOLD + "They want to go. Yes, let's!",
    "what is what": TOLD + "Now you know what's what.",
    "vitamin": TOLD + "Eat what holds vitamin A.",
    "option": TOLD + "The one to take is option a.",
    "note": TOLD + "The three notes to play are c, e, or a.",
    "route": TOLD + "It runs from z to a.",
    "variable": TOLD + "Multiply the width by h.",
    "grade": TOLD + "The mark for it was a B-.",
    "prefix": TOLD + "It begins with anti-.",
    "two hyphens": TOLD + "It can be on- or off-.",
    "logic": TOLD + "In logic you join them with or.",
    "list of little words": TOLD + "Most of it is a, an, the.",
    "article that is spoken of": TOLD + "The article in front of a vowel is an.",
    "word in quotation marks": TOLD + 'In front of it you put "the".',
    "word in emphasis": TOLD + "In front of it you put *the*.",
    "gold of a shield": TOLD + "The shield is azure, and the lion on it or.",
    "command": TOLD + "When you are done, run git add .",
    "writer who puts spaces before marks": TOLD + "What is it for ? It is the one that you use for that !",
    "operators": TOLD + "You can add && and !",
    "who trails off": TOLD + "And then you see the...",
    "speech over two paragraphs": 'She said to him, "Come in.\n\n"And now sit down with us," she went on. "It is late."',
    "speech over two lines": 'She said to him, "Come in.\nIt is late, and this is what you are here for."',
    "size in inches": TOLD + 'The screen that you see is 27".',
    "band": TOLD + "What you hear is the new song of The The.",
    "beginnings to go on with": "1. What I would like to do with you is to be\n2. The thing that I like in this house is\n3. What I like about you and your friends is what you do",
    "item that another list follows": "1. This is how to mix the flour, the eggs, the butter, the milk and the salt with\n   - Sugar\n   - Lemon",
    "items whose sentence goes on": "- You are in the right place if you have lost the key, the card or the code of your room, or\n- This is it.",
    "comment of code": " * This notice for you and all of the users of this library shall be included in\n * all copies.\n * That is it.",
    "closed json": 'Sure!\n{\n  "data": {\n    "name": "Ava"\n  }\n}\n  That is it.',
    "code in a fence": "This is how you do it:\n\n```\nprint this line to all of the.\n```\n\nThat is what you need.",
    "quotation whose end was forgotten": TOLD + 'You can say: "It is the same size, but in another way.',
    "item whose quotation was forgotten": '- Say what is in the text: it "is no more for you to use (see there)\n- This is for you.',
    "short item to go on with": "1. Understanding international cooperation begins in the house of\n2. This is for you and all that you know",
    "row": TOLD + "\nGold: or.",
    "line of code with one brace": "This is how you begin:\n  body {\n  and that is what it is.",
    "lines of code before prose": "This is how you begin:\n  if (x) {\n    while (y) {\n\nThat is what it is.",
    "other language": "Das ist das Haus und der Garten.\nSie sagte nur: na und, or.",
}


@pytest.mark.parametrize("name", ENDED)
def test_a_line_that_may_end_so_passes(name: str) -> None:
    assert truncation.check(ENDED[name], CheckContext()) == ()


@pytest.mark.parametrize("prompt", ["Which article goes before it?", f"Go on: {TOLD}It is always giving us a!"])
def test_a_line_may_break_off_where_the_caller_speaks_of_words_or_wrote_it(prompt: str) -> None:
    text = FORCED["article"]
    assert truncation.check(text, CheckContext(prompt=prompt)) == ()
    assert truncation.check(text, CheckContext(prompt="What do I do with my sink?"))


def test_the_place_of_a_line_that_breaks_off_is_told() -> None:
    line = "- You can clear the sink with the."
    text = f"- {TOLD}\n{line}\n- Then rinse it."
    (finding,) = truncation.check(text, CheckContext())
    assert finding.span is not None
    assert text[slice(*finding.span)] == line


def test_a_line_that_breaks_off_under_the_limit_of_the_caller_is_a_note() -> None:
    (finding,) = truncation.check(FORCED["article"], CheckContext(caller_limited=True))
    assert finding.severity == "note"


def test_a_cut_by_the_token_limit_is_found_in_any_text() -> None:
    (finding,) = truncation.check(LEAD, CheckContext(finish_reason="length"))
    assert finding.severity == "soft"


@pytest.mark.parametrize("text", [LEAD, CAUGHT["mid-sentence"]])
def test_a_cut_that_the_caller_asked_for_is_a_note(text: str) -> None:
    (finding,) = truncation.check(text, CheckContext(finish_reason="length", caller_limited=True))
    assert finding.severity == "note"


def test_cut_json_is_left_to_the_schema_check() -> None:
    assert truncation.check('{"a": [1, 2,', CheckContext(answer_format="json")) == ()
    assert truncation.check('{"a": [1, 2,', CheckContext(json_schema={})) == ()


@pytest.mark.parametrize(
    "prompt",
    [
        "Suggest a title for my essay on bees.",
        "Put this in order, please: small wings, bees, work, the quiet harvest, carry, how, whole",
    ],
)
def test_a_phrase_that_the_prompt_asks_for_needs_no_full_stop(prompt: str) -> None:
    text = "The quiet work of bees: how small wings carry a whole harvest"
    assert truncation.check(text, CheckContext(prompt=prompt)) == ()
    assert truncation.check(text, CheckContext(prompt="How do bees live?"))


def test_a_word_that_the_caller_wrote_is_whole() -> None:
    text = "- a painting in oil on wood\n- a painting in tempera"
    assert truncation.check(text, CheckContext(prompt="What are oil and tempera, and which is older?")) == ()
    assert truncation.check(text, CheckContext(prompt="What did they paint with, and which is older?"))


def test_the_language_asked_for_decides_which_words_are_read_as_english() -> None:
    text = "- the rain and the wind\n- the snow and a"
    assert truncation.check(text, CheckContext(language="en-GB"))
    assert truncation.check(text, CheckContext(language="vi")) == ()


@pytest.mark.parametrize(
    "unit",
    [
        "- a b\n",
        "a. ",
        "a: b\n",
        "| a ",
        "\u200b",
        "**a",
        "— A",
        "\ud800 ",
        "you and for !\n",
        "{\n",
        "a ",
        'to "',
        "x",
    ],
)
def test_a_megabyte_is_judged_in_well_below_a_second(unit: str) -> None:
    text = unit * (1_000_000 // len(unit)) + "\nand then"
    began = time.thread_time()
    truncation.check(text, CheckContext(prompt=text[:200_000]))
    assert time.thread_time() - began < 1.0
