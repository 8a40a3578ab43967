"""What a contraction becomes, what is left alone, and that it does not depend on how the text arrived."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.formatter.contraction_rules import CONTRACTIONS, LOOK_AHEAD, MAX_TOKEN
from deployments.formatter.contraction_stream import ContractionStream
from deployments.formatter.contractions import expand

FORMS = ["Isn't", "can’t", "WON'T", "It’s", "IT's", "‘cause", "’cause", "Wanna", "dog's", *sorted(CONTRACTIONS)]
WORDS = ["you", "it", "they", "your", "been", "never", "better", "walked", "need", "why", "I", "of", "plain", "x" * 40]
MARKS = ["```", "~~~", "`", "``", "```py\n", "\n```\n", '{"', '"}', '["', '"]', "{", "[", "]", "](", ")", "://", "www."]
MARKS += ["\n\n", "- ", "> ", "1. ", "**", "_", "\\", '"', "    ", "\u2028", "\ud800"]
PIECES = [*WORDS, *MARKS, *" \n'’‘.,?-aZé重0/\r\t"]
odd_texts = st.lists(st.sampled_from(PIECES) | st.sampled_from(FORMS) | st.just(" "), max_size=40).map("".join)
letters = st.text("abcdeilmnorstuvwy'’ ", max_size=30)

TOUCHED = re.compile(
    r"['’‘]|\b(?:gonna|wanna|gotta|kinda|sorta|outta|gimme|lemme|dunno|cuz)\b|_(?:gonna|wanna|cuz)", re.IGNORECASE
)


def expanded_in(pieces: list[str]) -> str:
    stream = ContractionStream()
    return "".join(map(stream.feed, pieces)) + stream.flush()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I don't know, it's late.", "I do not know, it is late."),
        ("I don’t know, it’s late.", "I do not know, it is late."),
        ("I can't, I won't and I shan't.", "I cannot, I will not and I shall not."),
        ("I'm sure they're here.", "I am sure they are here."),
        ("We've said you'll see.", "We have said you will see."),
        ("Let's go: here's how.", "Let us go: here is how."),
        ("She shouldn't've, and I would've.", "She should not have, and I would have."),
        ("I'd've said y'all could.", "I would have said you all could."),
        ("We're gonna and I wanna.", "We are going to and I want to."),
        ("You've gotta, cuz it's kinda good.", "You have got to, because it is kind of good."),
        ("I dunno. Lemme see, gimme time.", "I do not know. Let me see, give me time."),
        ("Wait 'til noon, ’cuz it’s late.", "Wait until noon, because it is late."),
    ],
)
def test_a_contraction_is_written_out(text: str, expected: str) -> None:
    assert expand(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't", "Do not"),
        ("DON'T", "DO NOT"),
        ("WON'T. Won't. won't.", "WILL NOT. Will not. will not."),
        ("CAN'T. Can't.", "CANNOT. Cannot."),
        ("I'm. I'M. i'm.", "I am. I AM. i am."),
        ("IT'S", "IT IS"),
        ("Gonna. GONNA.", "Going to. GOING TO."),
        ("Y'all. Y'ALL.", "You all. YOU ALL."),
        ("’Cause. ’CAUSE.", "Because. BECAUSE."),
        ("DON'T YOU?", "DO YOU NOT?"),
    ],
)
def test_it_keeps_the_case(text: str, expected: str) -> None:
    assert expand(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't you see?", "Do you not see?"),
        ("Isn't it? Won't they?", "Is it not? Will they not?"),
        ("Can't we stay?", "Can we not stay?"),
        ("It works, doesn't it?", "It works, does it not?"),
        ("Why don't you ask?", "Why do you not ask?"),
        ('She said, "Didn’t he come?"', 'She said, "Did he not come?"'),
        ("**Haven't I** said so?", "**Have I not** said so?"),
        ("- Aren't we late?", "- Are we not late?"),
        (
            "Ain't I? Ain't they? I ain't; we ain't; it ain't.",
            "Am I not? Are they not? I am not; we are not; it is not.",
        ),
        # No question: a question word or a mark has to stand before it.
        ("The problem isn't you.", "The problem is not you."),
        ("Don't your friends come?", "Do not your friends come?"),
        ("Isn't *it*", "Is not *it*"),
        ("Don't\nyou", "Do not\nyou"),
    ],
)
def test_a_question_turns_round(text: str, expected: str) -> None:
    assert expand(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's been long. It's late.", "It has been long. It is late."),
        ("It's never been easier; she's just become one.", "It has never been easier; she has just become one."),
        ("Where's he been? What's happened?", "Where has he been? What has happened?"),
        ("He's got it.", "He has got it."),
        ("It's made of glass and it's called a lens.", "It is made of glass and it is called a lens."),
        ("I'd like it; you'd need it; they'd proceed.", "I would like it; you would need it; they would proceed."),
        ("I'd better go, you'd best stay.", "I had better go, you had best stay."),
        (
            "He'd been there; she'd walked; we'd never seen it.",
            "He had been there; she had walked; we had never seen it.",
        ),
        ("How'd you do it?", "How did you do it?"),
        ("Something's wrong, nothing's lost.", "Something is wrong, nothing is lost."),
    ],
)
def test_what_follows_decides_between_is_and_has_and_between_would_and_had(text: str, expected: str) -> None:
    assert expand(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "The dog's bone, James' book, the 1990's, rock 'n' roll, o'clock, ma'am.",
        "IT's budget and WHO's plan.",  # abbreviations
        "He wrote 'cause of death' and 'til'.",
        "J'ai dit qu'il vient, l'eau, geht's, zo'n.",
        "can't-miss, a_don't, gonna_do, wanna-be, x-don't",
        "I can't'ed",
        "Its cant wont were well ill shell hell",
    ],
)
def test_what_is_no_contraction_or_not_surely_one_stays(text: str) -> None:
    assert expand(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "```\nprint('don't')\n\nit's\n```",
        '```python title="it\'s"\nx = "don\'t"\n``` x\n~~~\nit\'s\n```',
        "~~~ it's\ndon't\n~~~~",
        "1. Do this:\n   ````sh\n   # don't\n   ```\n   # it's\n   ````",
        "- ```\n  it's\n  ```",
        "> ```\n> it's\n> ```",
        "```\nnever closed, it's",
        "call `don't()` or ``it's ` that's``",
        "``` it's `` don't```",
        "an `open tick, it's",
        "https://a.b/don't/it's?q=can't and http://x.y/it's.",
        "www.it's.com/don't",
        "[text](/wiki/Don't_Look_Up)",
        json.dumps({"it's": "don't", "b": ["can't", {'c"': "won't"}], "n": 1}),
        json.dumps({"it's": "don't", "b": [{"c": "can't}"}]}, indent=2),
        json.dumps(["it's", "don't"]),
        '[{"a": "it\'s"}, {"a": "don\'t"}]',
    ],
)
def test_code_links_and_json_are_left_alone(text: str) -> None:
    assert expand(text) == text
    assert expanded_in(list(text)) == text


@pytest.mark.parametrize(
    "before",
    [
        "```\ncode\n```\n",
        "~~~\ncode\n  ~~~~ \n",
        "```inline``` ",
        "a `b` ",
        "a ` b\n",
        "see https://a.b, ",
        "[link](x) ",
        '{"a": ["b"]} ',
        '{"a": "never closed\n\n',
        '{ x "a", ',
        "~~struck~~ ",
        "_",
        "**",
        '"',
        "'",
        "(",
        "and/",
        "—",
    ],
)
def test_prose_begins_again_after_them(before: str) -> None:
    assert expand(before + "it's") == before + "it is"


@settings(max_examples=600)
@given(odd_texts | letters, st.data())
def test_the_result_does_not_depend_on_how_the_text_was_cut(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert expanded_in(pieces) == expand(text)


@settings(max_examples=600)
@given(odd_texts | letters | st.text())
def test_one_character_at_a_time_gives_the_same_and_holds_back_little(text: str) -> None:
    stream = ContractionStream()
    out = ""
    for character in text:
        out += stream.feed(character)
        assert stream.pending <= MAX_TOKEN + LOOK_AHEAD
    assert out + stream.flush() == expand(text)


@settings(max_examples=600)
@given(odd_texts | letters)
def test_applying_it_twice_changes_nothing_more(text: str) -> None:
    once = expand(text)
    assert expand(once) == once


@given(odd_texts | st.text())
def test_text_without_an_apostrophe_or_a_casual_word_is_never_touched(text: str) -> None:
    text = TOUCHED.sub("", text)
    if TOUCHED.search(text) is None:
        assert expand(text) == text


def test_of_other_words_nothing_is_held_back() -> None:
    stream = ContractionStream()
    pieces = ["Hello", " there,", " a 2 ", "b.", " Dogs", "'", " bones", " `it's", " x`", "\n```\ndon't", "\n", "it"]
    assert [stream.feed(piece) for piece in pieces] == pieces


def test_a_word_that_may_become_a_contraction_is_held_back_until_it_is_whole() -> None:
    stream = ContractionStream()
    assert [stream.feed(piece) for piece in ["I", " do", "n", "'t", " see", " it", "'s", " been", " so"]] == [
        "",
        "I ",
        "",
        "",
        "do not see",
        " ",
        "",
        "",
        "it has been ",
    ]
    assert stream.flush() == "so"


def test_only_a_contraction_that_hangs_on_the_next_word_waits_for_it() -> None:
    stream = ContractionStream()
    assert stream.feed("They don't. ") == "They do not. "
    assert stream.feed("Isn't ") == ""
    assert stream.feed("this ") == "Is not this "
    assert stream.feed("I'm ") == "I am "
    assert stream.feed("I'd ") == ""
    assert stream.feed("like ") == "I would like "


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "'",
        "`",
        "\n",
        " ",
        "it's ",
        "w'",
        '{"',
        "```\n",
        "[](",
        "don't you ",
        "i'd never ",
        "\\",
        "_",
        "~",
        "x://",
        '"a": ',
    ],
)
def test_a_megabyte_of_odd_text_takes_linear_time(piece: str) -> None:
    """By what it does, not by the clock: one that is quadratic does not end within the suite's timeout."""
    text = piece * (1_000_000 // len(piece))
    once = expand(text)
    assert len(once) >= len(text)
    assert len(expanded_in([text[at : at + 1000] for at in range(0, len(text), 1000)])) == len(once)
