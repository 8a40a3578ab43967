"""The shapes an answer can leave in."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.formatter.plain_stream import PlainStream
from deployments.formatter.renderers import render
from graph.contracts import AnswerFormat, FormatJob, Rendering

ANSWER = """\
# Title *one*

First **bold** line
second line.

- one
  - inner
- two `x`

1. step

> quoted text

```python
print("hi")
```

| a | b |
|---|---|
| 1 | [2](https://a.b) |

---
"""

PIECES = [
    "<script>",
    "[a](javascript:b)",
    "![i](http://x)",
    "[l](https://a.b)",
    "<https://a.b>",
    "```",
    "**",
    "\n",
]
PIECES += [
    "\n\n",
    "| a |\n|---|\n",
    "> ",
    "- ",
    "1. ",
    "# ",
    "    ",
    "\x00",
    "\ud800",
    '{"a":',
    "[[[",
    "&#0;",
    "<img ",
]
PIECES += ["[x](http://[::1", "[x]: y\n", "word ", "é", "\t", "~~~x"]
texts = st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text()
renderings = st.sampled_from(get_args(Rendering))
answer_formats = st.sampled_from(get_args(AnswerFormat))


def rendered(text: str, rendering: Rendering, answer_format: AnswerFormat = "markdown") -> str:
    return render(FormatJob(text, answer_format, rendering))


def envelope(text: str, answer_format: AnswerFormat = "markdown") -> dict[str, Any]:
    parsed = json.loads(rendered(text, "json", answer_format))
    assert isinstance(parsed, dict)
    return parsed


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@given(texts, renderings, answer_formats)
def test_any_text_renders_without_an_error(text: str, rendering: Rendering, answer_format: AnswerFormat) -> None:
    result = rendered(text, rendering, answer_format)
    assert not result.endswith("\n")


@given(texts, answer_formats)
def test_json_is_always_valid_and_on_one_line(text: str, answer_format: AnswerFormat) -> None:
    result = rendered(text, "json", answer_format)
    json.loads(result, parse_constant=pytest.fail)
    assert "\n" not in result
    result.encode()


@given(texts, st.data())
def test_text_is_what_a_stream_gives(text: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(text)))
    stream = PlainStream()
    assert stream.feed(text[:cut]) + stream.feed(text[cut:]) + stream.flush() == rendered(text, "text")


@given(texts)
def test_markdown_is_normal_after_one_pass(text: str) -> None:
    once = rendered(text, "markdown")
    assert rendered(once, "markdown") == once


@given(texts)
def test_html_holds_only_harmless_tags(text: str) -> None:
    allowed = {
        "a",
        "blockquote",
        "br",
        "code",
        "em",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "li",
        "ol",
        "p",
        "pre",
    }
    allowed |= {"strong", "table", "tbody", "td", "th", "thead", "tr", "ul"}
    for tag, attributes in Tags(rendered(text, "html")).found:
        assert tag in allowed
        assert set(attributes) <= {"href", "title", "rel", "class", "start", "style"}
        if tag == "a":
            assert str(attributes["href"]).lower().startswith(("http://", "https://", "mailto:"))
            assert attributes["rel"] == "noopener noreferrer"


def test_markdown_drops_trailing_spaces_and_extra_blank_lines() -> None:
    assert rendered("\n\na  \n\n\n\nb\t\n\n", "markdown") == "a\n\nb"


def test_markdown_leaves_code_alone() -> None:
    code = "```\na  \n\n\n\nb\n```"
    assert rendered(code, "markdown") == code


def test_markdown_closes_an_open_fence() -> None:
    assert rendered("- x\n  ~~~~py\n  a\n\n", "markdown") == "- x\n  ~~~~py\n  a\n  ~~~~"


def test_markdown_does_not_close_a_fence_that_is_closed() -> None:
    assert rendered("```\na\n```\n", "markdown") == "```\na\n```"


def test_a_json_answer_is_emitted_compact_in_its_own_order() -> None:
    assert rendered(' {"b": 1.5,\n "a": ["é", null]} ', "json", "json") == '{"b":1.5,"a":["é",null]}'


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", "[1, -Infinity]", '{"a": 1e999}', "[" * 100_000, "9" * 5000, "just words"]
)
def test_an_answer_that_should_be_json_and_is_not_goes_into_the_envelope(text: str) -> None:
    answer = envelope(text, "json")
    assert answer["format"] == "json"
    assert answer["text"] == text
    assert rendered(text, "json", "json").startswith('{"format":"json",')


def test_a_json_answer_is_not_touched_by_the_text_and_markdown_renderings() -> None:
    data = '{"a": "**b**  \\n", "c_d": "_e_"}'
    assert rendered(data, "text", "json") == data
    assert rendered(data, "markdown", "json") == data


def test_a_json_answer_is_shown_as_code_in_html() -> None:
    shown = '<pre><code class="language-json">{&quot;a&quot;:&quot;&lt;b&gt;&quot;}</code></pre>'
    assert rendered('{"a":"<b>"}', "html", "json") == shown


def test_the_envelope_lists_the_blocks_in_order() -> None:
    answer = envelope(ANSWER)
    assert answer["format"] == "markdown"
    assert answer["text"] == rendered(ANSWER, "text")
    assert answer["blocks"] == [
        {"type": "heading", "level": 1, "text": "Title one"},
        {"type": "paragraph", "text": "First bold line second line."},
        {"type": "list", "ordered": False, "items": ["one\ninner", "two x"]},
        {"type": "list", "ordered": True, "items": ["step"]},
        {"type": "quote", "text": "quoted text"},
        {"type": "code", "language": "python", "text": 'print("hi")'},
        {"type": "table", "header": ["a", "b"], "rows": [["1", "2 (https://a.b)"]]},
    ]


def test_an_empty_answer_has_no_blocks() -> None:
    assert envelope("") == {"format": "markdown", "text": "", "blocks": []}


def test_html_escapes_raw_html() -> None:
    html = rendered("<script>alert(1)</script>\n\na <b>c</b>", "html")
    assert "<script" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;" in html


def test_html_keeps_safe_links_and_marks_them() -> None:
    expected = '<a href="{0}" rel="noopener noreferrer">x</a>'
    for url in ["http://a.b", "HTTPS://a.b", "mailto:a@b.c"]:
        assert expected.format(url) in rendered(f"[x]({url})", "html")


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "/relative", "//host", "ftp://a", "http:a"])
def test_html_drops_other_links_to_their_text(url: str) -> None:
    assert rendered(f"see [**x**]({url}) now", "html") == "<p>see <strong>x</strong> now</p>"


@pytest.mark.parametrize("source", ["https://evil.example/?q=secret", "data:image/png;base64,AAAA", "local.png"])
def test_html_drops_images_to_their_escaped_alt_text(source: str) -> None:
    assert rendered(f'a ![the *<chart>*]({source} "t") b', "html") == "<p>a the &lt;chart&gt; b</p>"


def test_html_drops_an_image_given_by_reference() -> None:
    assert rendered("![alt][1]\n\n[1]: https://evil.example/x.png", "html") == "<p>alt</p>"


def test_html_renders_tables() -> None:
    assert rendered("| a |\n|---|\n| 1 |", "html").startswith("<table>")


@pytest.mark.parametrize(
    ("rendering", "expected"),
    [
        ("text", "It is so: f('don't'), do not"),
        ("markdown", "It is **so**: `f('don't')`, do not"),
        ("html", "<p>It is <strong>so</strong>: <code>f('don't')</code>, do not</p>"),
    ],
)
def test_contractions_are_written_out_when_the_job_says_so_but_not_in_code(rendering: Rendering, expected: str) -> None:
    text = "It's **so**: `f('don't')`, don't"
    job = FormatJob(text, "markdown", rendering, expand_contractions=True)
    assert render(job) == expected
    assert render(replace(job, expand_contractions=False)) == rendered(text, rendering)


def test_in_an_envelope_the_contractions_of_text_and_blocks_are_written_out() -> None:
    job = FormatJob("It's **so**.", "markdown", "json", expand_contractions=True)
    envelope = json.loads(render(job))
    assert envelope["text"] == "It is so."
    assert envelope["blocks"] == [{"type": "paragraph", "text": "It is so."}]


@pytest.mark.parametrize("rendering", get_args(Rendering))
def test_an_answer_asked_for_as_json_keeps_its_contractions(rendering: Rendering) -> None:
    job = FormatJob('{"a": "it\'s"}', "json", rendering, expand_contractions=True)
    assert render(job) == render(replace(job, expand_contractions=False))
    unparsable = FormatJob("it's", "json", rendering, expand_contractions=True)
    assert "it's" in render(unparsable)
