"""Streams in a row give what one after the other would give of the whole text."""

from hypothesis import given
from hypothesis import strategies as st

from deployments.formatter.contraction_stream import ContractionStream
from deployments.formatter.plain_stream import PlainStream
from deployments.formatter.renderers import render
from deployments.formatter.stream_chain import StreamChain
from graph.contracts import FormatJob

PIECES = [
    "It's ",
    "**don't** ",
    "`it's` ",
    "\n```\ndon't\n```\n",
    "Isn't",
    " it",
    "\n\n",
    "- can",
    "'t ",
    "plain ",
    "# ",
]


@given(st.lists(st.sampled_from(PIECES), max_size=20))
def test_a_chain_gives_what_the_formatter_makes_of_the_whole_answer(pieces: list[str]) -> None:
    chain = StreamChain(ContractionStream(), PlainStream())
    streamed = "".join(map(chain.feed, pieces)) + chain.flush()
    assert streamed == render(FormatJob("".join(pieces), "plain", "text", expand_contractions=True))


def test_what_the_first_one_holds_back_at_the_end_reaches_the_last_one() -> None:
    chain = StreamChain(ContractionStream(), PlainStream())
    assert chain.feed("so **don't") == "so "
    assert chain.feed("**") + chain.flush() == "do not"


def test_an_empty_chain_changes_nothing() -> None:
    chain = StreamChain()
    assert chain.feed("it's") + chain.flush() == "it's"
