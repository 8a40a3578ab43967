"""What plain text looks like, and that it does not depend on how the text arrived."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.formatter.plain_stream import LOOK_AHEAD, PlainStream

MARKS = ["**", "__", "***", "```", "~~~", "# ", "> ", "* ", "- ", "\n\n", "\n```\n", "](http://a.b)"]
WHOLES = ["word", "snake_case", "`x`", "**b**", "![alt](x)", "x" * 90, " " * 70, "\u2028", "\ud800"]
MARKDOWN_PIECES = st.sampled_from([*"*_`#>~-+=[]()!\\ \n\r\taZ9é重.,", *MARKS, *WHOLES])
markdown = st.lists(MARKDOWN_PIECES, max_size=60).map("".join)


def plain(text: str) -> str:
    stream = PlainStream()
    return stream.feed(text) + stream.flush()


def plain_by_character(text: str) -> str:
    stream = PlainStream()
    return "".join(map(stream.feed, text)) + stream.flush()


@settings(max_examples=400)
@given(markdown, st.data())
def test_the_result_does_not_depend_on_how_the_text_was_cut(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    stream = PlainStream()
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert "".join(map(stream.feed, pieces)) + stream.flush() == plain(text)


@settings(max_examples=400)
@given(markdown | st.text())
def test_one_character_at_a_time_gives_the_same_and_holds_back_little(text: str) -> None:
    stream = PlainStream()
    out = ""
    for character in text:
        out += stream.feed(character)
        assert stream.pending < LOOK_AHEAD
    assert out + stream.flush() == plain(text)


@given(st.lists(st.sampled_from(["alpha", "Beta", "gamma,", "d.", "2", "é", "snake_case"]), min_size=1))
def test_text_without_marks_passes_unchanged(words: list[str]) -> None:
    assert plain(" ".join(words)) == " ".join(words)


def test_plain_words_are_not_held_back() -> None:
    stream = PlainStream()
    assert [stream.feed(piece) for piece in ["Hello", " there,", " a 2 ", "b."]] == [
        "Hello",
        " there,",
        " a 2 ",
        "b.",
    ]


def test_bold_text_is_held_back_only_until_its_closing_mark() -> None:
    stream = PlainStream()
    assert stream.feed("A **bold") == "A "
    assert stream.feed("** word") == "bold word"


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("# Title\n\n### Sub", "Title\n\nSub"),
        ("Title\n=====\ntext\n---\nmore", "Title\ntext\nmore"),
        ("> quoted\n> > deeper\n>\n> end", "quoted\ndeeper\n\nend"),
        ("* one\n  + two\n- three\n1. four", "- one\n  - two\n- three\n1. four"),
        ("**bold**, *it*, __bold__, _it_ and ***both***.", "bold, it, bold, it and both."),
        ("**outer *inner* text** and **a *b***", "outer inner text and a b"),
        ("**Note:**text", "Note:text"),
        ("这是**重点**内容", "这是重点内容"),
        ("call `f(*args)` or ``a ` b``", "call f(*args) or a ` b"),
        ("```python\nx = '**'\n\n\n\n# y\n```\nafter", "x = '**'\n\n\n\n# y\nafter"),
        ("~~~\n```\n~~~\n*it*", "```\nit"),
        ("> ```\n> x\n> ```\n**b**", "> x\nb"),
        ("```\nnever **closed**", "never **closed**"),
        ('see [the **docs**](https://a.b/c_(d) "title").', "see the docs (https://a.b/c_(d))."),
        ("[https://a.b](https://a.b)", "https://a.b"),
        ("![a chart](https://evil.example/x.png)", "a chart"),
        ("[![logo](x.png)](https://a.b)", "logo (https://a.b)"),
        (r"\*kept\* and \_kept\_", "*kept* and _kept_"),
        (r"*a \* b", r"*a * b"),
        ("*one `*` line\n5* hotel", "one * line\n5* hotel"),
        ("\n\na\r\n\r\n\r\n\r\nb\n\n", "a\n\nb"),
        ("a\n\n***\n\nb", "a\n\nb"),
    ],
)
def test_marks_are_stripped(marked: str, expected: str) -> None:
    assert plain(marked) == expected
    assert plain_by_character(marked) == expected


@pytest.mark.parametrize(
    "text",
    [
        "2 * 3 = 6 and 2*3*4",
        "snake_case_name and _private",
        "a lone * star, a lone _ bar, a lone ` tick",
        "call f(*args, **kwargs)",
        "5* hotel",
        ">= 5 is more",
        "#hashtag, C# and ####### seven",
        "array[0] and [1] and [text] (not a link) and [open",
        "name: ____________",
        r"\( x^2 \) and C:\temp",
        "| a | b |\n| --- | --- |\n| 1 | 2 |",
        "well -- yes - no",
        "Hello!",
        "!",
    ],
)
def test_what_is_no_mark_stays(text: str) -> None:
    assert plain(text) == text
    assert plain_by_character(text) == text


def test_a_bold_paragraph_longer_than_the_look_ahead_loses_its_marks() -> None:
    words = " ".join(["long"] * LOOK_AHEAD)
    assert plain(f"**{words}** end") == f"{words} end"


def test_an_overlong_fence_line_is_kept_as_text() -> None:
    line = "```" + "x" * LOOK_AHEAD
    assert plain(line + "\n**b**") == line + "\nb"


def test_a_run_of_blank_lines_in_code_is_bounded() -> None:
    assert len(plain("```\na" + "\n" * 5000 + "b")) < 2 * LOOK_AHEAD
