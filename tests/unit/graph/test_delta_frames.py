"""Deltas on the wire: what comes out is what went in, and what is no frame is none."""

from hypothesis import given
from hypothesis import strategies as st

from graph.contracts import TokenDelta
from graph.delta_frames import Pushed, decode_deltas, decode_frame, encode_deltas, encode_frame, join, pack, unpack

LOGPROB = st.fixed_dictionaries(
    {"token": st.text(max_size=5), "logprob": st.floats(-9999, 0), "bytes": st.lists(st.integers(0, 255), max_size=4)}
)
DELTAS = st.builds(
    TokenDelta,
    text=st.text(max_size=20),
    token_count=st.integers(0, 9),
    prompt_tokens=st.integers(1, 10_000),
    cached_tokens=st.integers(0, 10_000),
    finish_reason=st.sampled_from([None, "stop", "length", "repetition"]),
    logprobs=st.lists(LOGPROB, max_size=3).map(tuple),
    adapter=st.sampled_from([None, "a" * 64]),
)


@given(st.lists(DELTAS, max_size=5), st.binary(max_size=16))
def test_a_frame_brings_every_field_of_every_delta(deltas: list[TokenDelta], key: bytes) -> None:
    pushed = [Pushed(7, place, pack(delta)) for place, delta in enumerate(deltas)]
    frame = decode_frame(encode_frame(key, pushed))
    assert frame is not None
    assert frame.key == key
    assert [(each.stream, each.place, unpack(each.delta)) for each in frame.pushed] == [
        (7, place, delta) for place, delta in enumerate(deltas)
    ]
    assert decode_deltas(encode_deltas(deltas)) == deltas


@given(st.binary(max_size=200))
def test_any_other_bytes_are_no_frame_or_one_of_our_form(data: bytes) -> None:
    frame = decode_frame(data)
    assert frame is None or decode_frame(encode_frame(frame.key, frame.pushed)) == frame


@given(st.lists(DELTAS, min_size=1, max_size=6))
def test_deltas_that_are_joined_hold_all_text_tokens_and_logprobs_and_end_as_the_last(deltas: list[TokenDelta]) -> None:
    joined = join(deltas)
    assert joined.text == "".join(delta.text for delta in deltas)
    assert joined.token_count == sum(delta.token_count for delta in deltas)
    assert list(joined.logprobs) == [entry for delta in deltas for entry in delta.logprobs]
    assert (joined.finish_reason, joined.adapter) == (deltas[-1].finish_reason, deltas[-1].adapter)
    assert (joined.prompt_tokens, joined.cached_tokens) == (deltas[-1].prompt_tokens, deltas[-1].cached_tokens)
