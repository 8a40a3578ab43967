"""The final shape of an answer: one pure function from a ``FormatJob`` to text. Judges nothing and never raises:
an answer that got this far leaves, whatever it looks like. Called by the Formatter deployment; by the ingress itself
where that is cheaper than the way there.

An answer that was asked for as JSON is data: only ``json`` re-emits it and only ``html`` wraps it, since stripping
or tidying Markdown, or writing contractions out, would change the strings in it.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.token import Token

from deployments.formatter.contractions import expand
from deployments.formatter.plain_stream import PlainStream
from graph.contracts import AnswerFormat, FormatJob, Rendering

__all__ = ["is_cheap", "render"]

_CHEAP_CHARS: Mapping[Rendering, int] = {"text": 4_000, "markdown": 8_000, "json": 2_000, "html": 2_000}
"""Such a text takes 0.1 to 1.3 ms, with contractions to be written out as well."""

_SAFE_LINK = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)
_FENCE_LINE = re.compile(r"([ \t]*)(`{3,}(?=[^`]*$)|~{3,})")
_FENCE_END = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*")


def render(job: FormatJob) -> str:
    """The answer in the rendering asked for, without a newline at the end. Deterministic; never raises.

    - ``text``: Markdown marks stripped, as ``PlainStream`` does it.
    - ``markdown``: no trailing spaces, at most one blank line in a row (code is left alone), an open code fence
      closed. Applying it twice changes nothing more.
    - ``json``: always valid JSON on one line. A JSON answer as it is, in its own key order; anything else as
      ``{"format": ..., "text": plain text, "blocks": [...]}``, blocks being those of ``_blocks``.
    - ``html``: a fragment, safe to insert: raw HTML is escaped, only http, https and mailto links stay links,
      images become their alt text (loading one would tell its server what the answer says).

    Contractions are written out first, where the job says so: in Markdown it still shows what is code.
    """
    text = expand(job.text) if job.expand_contractions and job.answer_format != "json" else job.text
    return _RENDERERS[job.rendering](text, job.answer_format)


def is_cheap(job: FormatJob) -> bool:
    """Whether rendering takes less than handing the job to another process does, which is 1.3 ms of CPU."""
    return len(job.text) <= _CHEAP_CHARS[job.rendering]


def _render_text(text: str, answer_format: AnswerFormat) -> str:
    if answer_format == "json":
        return text.strip()
    stream = PlainStream()
    return stream.feed(text) + stream.flush()


def _render_markdown(text: str, answer_format: AnswerFormat) -> str:
    if answer_format == "json":
        return text.strip()
    lines: list[str] = []
    fence: str | None = None  # the marks of the code block we are in
    indent = ""
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if fence is not None:
            end = _FENCE_END.fullmatch(line)
            if end is not None and end[1].startswith(fence):
                fence = None
                line = line.rstrip()
            lines.append(line)
            continue
        line = line.rstrip()
        if not line and (not lines or not lines[-1]):
            continue
        if (start := _FENCE_LINE.match(line)) is not None:
            indent, fence = start[1], start[2]
        lines.append(line)
    while lines and not lines[-1].strip():
        lines.pop()
    if fence is not None:
        lines.append(indent + fence)
    return "\n".join(lines)


def _render_json(text: str, answer_format: AnswerFormat) -> str:
    if answer_format == "json":
        try:
            return _dump(json.loads(text))
        except (ValueError, RecursionError):
            pass  # a degraded answer: the caller still gets JSON, below
    return _dump({"format": answer_format, "text": _render_text(text, answer_format), "blocks": _blocks(_parse(text))})


def _render_html(text: str, answer_format: AnswerFormat) -> str:
    if answer_format == "json":
        return f'<pre><code class="language-json">{escapeHtml(text.strip())}</code></pre>'
    tokens = _parse(text)
    for token in tokens:
        token.children = list(_safe_inline(token.children)) if token.children else token.children
    return str(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})).rstrip("\n")


_RENDERERS: Mapping[Rendering, Callable[[str, AnswerFormat], str]] = {
    "text": _render_text,
    "markdown": _render_markdown,
    "json": _render_json,
    "html": _render_html,
}


def _make_parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    # Every link is parsed, so that _safe_inline can drop the bad ones to their text: a link that the parser itself
    # refuses would stay in the answer as Markdown source.
    parser.validateLink = lambda url: True  # type: ignore[method-assign]
    return parser


_MARKDOWN = _make_parser()


def _parse(text: str) -> list[Token]:
    return _MARKDOWN.parse(text)


def _safe_inline(tokens: Sequence[Token]) -> Iterator[Token]:
    is_kept = False  # whether the link we are in stays one; links do not nest
    for token in tokens:
        if token.type == "image":
            yield Token("text", "", 0, content=_inline_text(token.children or ()))
        elif token.type == "link_open":
            href = str(token.attrGet("href") or "")
            is_kept = _SAFE_LINK.match(href) is not None
            if is_kept:
                token.attrSet("rel", "noopener noreferrer")
                yield token
        elif token.type != "link_close" or is_kept:
            yield token


def _blocks(tokens: Sequence[Token]) -> list[dict[str, Any]]:
    """The outermost blocks in order: ``paragraph`` and ``quote`` {text}, ``heading`` {level, text}, ``list``
    {ordered, items: [text]}, ``code`` {language or None, text}, ``table`` {header: [text], rows: [[text]]}."""
    blocks: list[dict[str, Any]] = []
    at = 0
    while at < len(tokens):
        end = _end_of_block(tokens, at)
        block = _block(tokens[at], tokens[at + 1 : end])
        if block is not None:
            blocks.append(block)
        at = end + 1
    return blocks


def _block(token: Token, inside: Sequence[Token]) -> dict[str, Any] | None:
    match token.type:
        case "paragraph_open":
            return {"type": "paragraph", "text": _text(inside)}
        case "heading_open":
            return {"type": "heading", "level": int(token.tag[1:]), "text": _text(inside)}
        case "blockquote_open":
            return {"type": "quote", "text": _text(inside)}
        case "bullet_list_open" | "ordered_list_open":
            items = [_text(item) for item in _children(inside)]
            return {"type": "list", "ordered": token.type == "ordered_list_open", "items": items}
        case "fence" | "code_block":
            language = next(iter(token.info.split()), None)
            return {"type": "code", "language": language, "text": token.content.removesuffix("\n")}
        case "table_open":
            rows = [[_text(cell) for cell in _children(row)] for part in _children(inside) for row in _children(part)]
            return {"type": "table", "header": rows[0], "rows": rows[1:]}
        case _:
            return None  # a rule: no content


def _end_of_block(tokens: Sequence[Token], start: int) -> int:
    """The index of the token that closes the block opened at ``start``; ``start`` itself where nothing opens."""
    depth = 0
    for at in range(start, len(tokens)):
        depth += tokens[at].nesting
        if depth == 0:
            return at
    raise AssertionError("markdown-it returned an unbalanced token stream")


def _children(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    """What is inside each of the outermost blocks of ``tokens``."""
    at = 0
    while at < len(tokens):
        end = _end_of_block(tokens, at)
        yield tokens[at + 1 : end]
        at = end + 1


def _text(tokens: Sequence[Token]) -> str:
    """All text in ``tokens``, one line for each block."""
    texts = [
        _inline_text(token.children or ()) if token.type == "inline" else token.content.removesuffix("\n")
        for token in tokens
        if token.type in ("inline", "fence", "code_block")
    ]
    return "\n".join(texts)


def _inline_text(tokens: Sequence[Token]) -> str:
    """Inline text without marks; links as ``text (url)``, as in plain text."""
    parts: list[str] = []
    link: tuple[str, int] | None = None  # its target, and where its text begins in parts
    for token in tokens:
        match token.type:
            case "text" | "code_inline":
                parts.append(token.content)
            case "softbreak" | "hardbreak":
                parts.append(" " if token.type == "softbreak" else "\n")
            case "image":
                parts.append(_inline_text(token.children or ()))
            case "link_open":
                link = str(token.attrGet("href") or ""), len(parts)
            case "link_close" if link is not None:
                url, start = link
                if url and "".join(parts[start:]) != url:
                    parts.append(f" ({url})")
                link = None
    return "".join(parts)


def _dump(value: Any) -> str:
    """Raises ValueError on a number that JSON has no sign for: NaN, and the infinity that 1e999 becomes."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: escaped, since UTF-8 cannot carry it
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text
