"""What decides which replica answers: a conversation by how it began, a long system prompt by its beginning."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.ingress.openai_schema import ChatRequest
from deployments.ingress.planning import Caller, ServiceFacts, plan_request
from deployments.ingress.prefix_key import BEGINNING_CHARS, prefix_key
from graph.contracts import EngineInfo, GenerationJob, Message, PrefixKey
from graph.settings import IngressTunables
from tests.unit.ingress.harness import CATALOGUE, MODEL, POLICY

TEXTS = st.text(max_size=200)
TURNS = st.lists(st.tuples(st.sampled_from(["assistant", "user"]), TEXTS), max_size=6)
LONG = "Rule: be kind to whoever asks. " * 100
assert len(LONG) > BEGINNING_CHARS


def opening(system: str | None, question: str) -> tuple[Message, ...]:
    asked = (Message("user", question),)
    return asked if system is None else (Message("system", system), *asked)


def plan(messages: tuple[Message, ...], dials: dict[str, int], tenant: str = "acme") -> GenerationJob:
    """The job that the ingress makes of a request with these dials, where tenants have caches of their own."""
    body: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "controls": {"lp": dials},
    }
    facts = ServiceFacts(CATALOGUE, POLICY, IngressTunables(), frozenset(), b"k" * 32)
    engine = EngineInfo(MODEL, "simulated", 8192, "1")
    request = ChatRequest.model_validate(body)
    return plan_request(request, Caller(tenant, "r"), facts, engine, ("g",), 0.0, 10.0).plans[0].job


@given(system=st.none() | TEXTS | st.just(LONG), question=TEXTS, later=TURNS)
def test_all_turns_of_a_conversation_have_the_key_of_its_first(
    system: str | None, question: str, later: list[tuple[str, str]]
) -> None:
    first = opening(system, question)
    continued = (*first, *(Message(role, text) for role, text in later))  # type: ignore[arg-type]
    assert prefix_key(continued, "salt", None) == prefix_key(first, "salt", None)


def test_conversations_under_one_long_system_prompt_share_their_beginning_alone() -> None:
    keys = [prefix_key(opening(LONG, question), None, None) for question in ("Why?", "How?")]
    assert keys[0].beginning == keys[1].beginning
    assert keys[0].conversation != keys[1].conversation


def test_a_system_prompt_that_ends_in_something_of_the_users_own_is_shared_all_the_same() -> None:
    keys = [prefix_key(opening(f"{LONG} The user is {name}.", "Why?"), None, None) for name in ("Ada", "Bob")]
    assert keys[0].beginning == keys[1].beginning


def test_instructions_inside_the_first_user_turn_are_shared_too() -> None:
    keys = [prefix_key(opening(None, f"{LONG} Question: {text}"), None, None) for text in ("Why?", "How?")]
    assert keys[0].beginning == keys[1].beginning


def test_what_is_short_as_a_whole_begins_alone() -> None:
    keys = [prefix_key(opening("Be brief.", question), None, None) for question in ("Why?", "How?")]
    assert keys[0].beginning != keys[1].beginning
    assert all(key.beginning == key.conversation for key in keys)


@pytest.mark.parametrize("system", [None, "Be brief.", LONG])
def test_other_caches_and_other_words_have_other_keys(system: str | None) -> None:
    messages = opening(system, "Why?")
    keys = [
        prefix_key(messages, None, None),
        prefix_key(messages, "one tenant", None),
        prefix_key(messages, "another", None),
        prefix_key(messages, None, "an adapter"),
        prefix_key((replace(messages[0], content="!" + messages[0].content), *messages[1:]), None, None),
        prefix_key((replace(messages[0], role="developer"), *messages[1:]), None, None),
    ]
    assert len({key.beginning for key in keys}) == len({key.conversation for key in keys}) == len(keys)


def test_a_dial_that_is_moved_between_two_turns_moves_no_conversation() -> None:
    first = plan(opening("Be brief.", "Why is the sky blue?"), {"depth": 10})
    history = (*opening("Be brief.", "Why is the sky blue?"), Message("assistant", "Light scatters."))
    second = plan((*history, Message("user", "And at night?")), {"depth": 90})
    assert first.messages[-1].content != "Why is the sky blue?", "no directive was appended: the test tests nothing"
    assert first.prefix == second.prefix is not None


def test_tenants_with_caches_of_their_own_have_keys_of_their_own() -> None:
    asked = opening(LONG, "Why is the sky blue?")
    one, other = (plan(asked, {}, tenant).prefix for tenant in ("acme", "umbra"))
    assert one is not None
    assert other is not None
    assert one.beginning != other.beginning
    assert one.conversation != other.conversation


def test_every_process_and_version_has_the_same_keys() -> None:
    # Ingress replicas of two versions run side by side while one takes the other's place.
    assert prefix_key(opening("Be brief.", "Why is the sky blue?"), "salt", "adapter") == PrefixKey(
        beginning=14248249556822088771, conversation=14248249556822088771
    )


def test_a_text_with_half_a_surrogate_pair_has_a_key() -> None:
    assert prefix_key(opening(None, "\ud83d"), None, None) != prefix_key(opening(None, "?"), None, None)
