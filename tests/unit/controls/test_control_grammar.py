"""Every structural tag that the compiler builds, compiled by xgrammar and held against texts. No model is needed."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jsonschema
import pytest
from control_builders import SOURCES, make_compiled

from deployments.controls.schema_guard import check_schema

xgrammar = pytest.importorskip("xgrammar", reason="comes with vLLM")

STOP = 256


@cache
def compiler() -> Any:
    # One token a byte and one that ends the answer: the smallest vocabulary that can write everything.
    vocabulary = [bytes([byte]) for byte in range(256)] + [b"<end>"]
    info = xgrammar.TokenizerInfo(vocabulary, vocab_type=xgrammar.VocabType.RAW, stop_token_ids=[STOP])
    return xgrammar.GrammarCompiler(info, max_threads=1)


def acceptor(grammar: Mapping[str, Any] | None) -> Callable[[str], bool]:
    """Whether the grammar takes a text as a whole answer: written to the end, and allowed to end there."""
    assert grammar is not None
    compiled = compiler().compile_structural_tag(json.dumps(grammar))

    def accepts(text: str) -> bool:
        matcher = xgrammar.GrammarMatcher(compiled)
        return bool(matcher.accept_string(text)) and bool(matcher.accept_token(STOP))

    return accepts


def make_acceptor(ls: dict[str, str], **settings: Any) -> Callable[[str], bool]:
    return acceptor(make_compiled(settings.pop("lp", None), ls, **settings).grammar)


def steps(count: int, line: str = "Boil some water.") -> str:
    return "\n".join(f"{number}. {line}" for number in range(1, count + 1))


def bullets(count: int, line: str = "Boil some water.") -> str:
    return "\n".join([f"- {line}"] * count)


@pytest.mark.parametrize(("form", "write"), [("steps", steps), ("bullets", bullets)])
def test_a_list_has_three_to_seven_bounded_sentences(form: str, write: Callable[..., str]) -> None:
    accepts = make_acceptor({"format": form})
    assert [accepts(write(count)) for count in range(1, 10)] == [3 <= count <= 7 for count in range(1, 10)]
    for line in ("Is it boiling yet?", "Été comme hiver!", "A. B. C. D. E.", "A" + "b" * 218 + "."):
        assert accepts(write(3, line)), line
    for line in ("boil some water.", "Boil some water", "Yes.", "", "A" + "b" * 219 + ".", "Boil\nsome water."):
        assert not accepts(write(3, line)), line
    assert not accepts(write(3) + "\n")


def test_steps_are_numbered_in_order() -> None:
    accepts = make_acceptor({"format": "steps"})
    assert not accepts(steps(3).replace("3.", "4."))


def test_a_shallow_answer_has_fewer_and_shorter_lines() -> None:
    accepts = make_acceptor({"format": "steps"}, lp={"depth": 0})
    assert accepts(steps(4))
    assert not accepts(steps(5))
    assert not accepts(steps(3, "A" + "b" * 100 + "."))


def test_lines_in_another_script_need_no_capital_and_no_full_stop() -> None:
    accepts = make_acceptor({"format": "steps", "language": "ja"})
    assert accepts(steps(3, "お湯を沸かす"))
    assert not accepts(steps(3, "湯" * 221))
    assert not accepts(steps(2, "お湯を沸かす"))


def test_the_first_line_is_a_summary_and_the_rest_is_free() -> None:
    accepts = make_acceptor({"summary_first": "on"})
    assert accepts("It is a short story.\n\nOnce upon a time\n\n# anything")
    assert not accepts("it is a short story.\n\nOnce")
    assert not accepts("It is a short story.\nOnce")


def test_a_summary_and_steps_are_one_grammar() -> None:
    accepts = make_acceptor({"summary_first": "on", "format": "steps"})
    assert accepts("It is about tea.\n\n" + steps(4))
    assert not accepts(steps(4))


def test_only_the_supplied_ids_can_be_cited_in_free_text() -> None:
    accepts = make_acceptor({"citations": "on"}, sources=SOURCES)
    for text in ("The sky is blue [s1]. Water is wet [a.b-c][s1].", "No citation.", ""):
        assert accepts(text), text
    for text in ("The sky [s2].", "A [link](x).", "The sky [s1", "a [axb-c]."):
        assert not accepts(text), text


@pytest.mark.parametrize(("form", "write"), [("steps", steps), ("bullets", bullets)])
def test_only_the_supplied_ids_can_be_cited_in_lines(form: str, write: Callable[..., str]) -> None:
    accepts = make_acceptor({"citations": "on", "format": form}, sources=SOURCES)
    assert accepts(write(3, "The sky is blue [s1][a.b-c]."))
    assert accepts(write(3))
    assert not accepts(write(3, "The sky is blue [s2]."))
    assert not accepts(write(3, "The sky [x] is blue."))


@pytest.mark.parametrize("level", [0, 50, 100])
@pytest.mark.parametrize(
    "ls", [{}, {"summary_first": "on"}, {"citations": "on"}, {"summary_first": "on", "citations": "on"}]
)
def test_the_json_envelope_and_its_grammar_agree(ls: dict[str, str], level: int) -> None:
    sources = SOURCES if "citations" in ls else None
    compiled = make_compiled({"depth": level}, {"format": "json", **ls}, sources=sources)
    assert compiled.json_schema is not None
    check_schema(compiled.json_schema)
    properties = compiled.json_schema["properties"]
    longest = {
        name: "é" * rule["maxLength"]
        if rule["type"] == "string"
        else ["s1"] * rule["maxItems"]
        if name == "sources"
        else ["x" * rule["items"]["maxLength"]] * rule["maxItems"]
        for name, rule in properties.items()
    }
    shortest = {
        name: "" if rule["type"] == "string" else ["s1"] if name == "sources" else [""]
        for name, rule in properties.items()
    }
    accepts = acceptor(compiled.grammar)
    for document in (shortest, longest):
        jsonschema.validate(document, dict(compiled.json_schema))
        assert accepts(json.dumps(document, ensure_ascii=False))
    for wrong in (
        {**longest, "answer": longest["answer"] + "x"},
        {**longest, "key_points": []},
        {**longest, "key_points": ["x"] * 6},
        {**longest, "more": 1},
        {**longest, "answer": 'a "quote"'},
    ):
        assert not accepts(json.dumps(wrong, ensure_ascii=False))


@pytest.mark.parametrize("form", ["steps", "bullets"])
def test_max_tokens_is_above_the_longest_answer_that_the_grammar_takes(form: str) -> None:
    compiled = make_compiled({"depth": 100}, {"format": form})
    write = steps if form == "steps" else bullets
    longest = write(7, "A" + "b" * 898 + ".")
    accepts = acceptor(compiled.grammar)
    assert accepts(longest)
    assert not accepts(write(7, "A" + "b" * 899 + "."))
    assert (compiled.sampling.max_tokens or 0) > len(longest)


def test_max_tokens_is_above_the_longest_json_that_the_grammar_takes() -> None:
    compiled = make_compiled(
        {"depth": 100}, {"format": "json", "summary_first": "on", "citations": "on"}, sources=SOURCES
    )
    longest = json.dumps(
        {"summary": "x" * 240, "answer": "x" * 8000, "key_points": ["x" * 200] * 5, "sources": ["a.b-c"] * 2}
    )
    assert acceptor(compiled.grammar)(longest)
    assert (compiled.sampling.max_tokens or 0) > len(longest)


def test_citations_in_json_stand_in_their_own_list_of_supplied_ids() -> None:
    accepts = make_acceptor({"citations": "on", "format": "json"}, sources=SOURCES)

    def document(answer: str, cited: str) -> str:
        return json.dumps({"answer": answer, "key_points": ["x"], "sources": [cited]})

    assert accepts(document("The sky is blue.", "s1"))
    assert not accepts(document("The sky is blue.", "s9"))
    assert not accepts(document("The sky is blue [s9].", "s1"))


def test_a_callers_schema_holds_the_answer() -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    accepts = acceptor(make_compiled(json_schema=schema).grammar)
    assert accepts('{"n": 3}')
    assert not accepts('{"n": "three"}')


def test_no_tag_is_built_where_no_form_is_asked_for() -> None:
    assert make_compiled().grammar is None
    assert make_compiled(ls={"format": "plain"}).grammar is None
