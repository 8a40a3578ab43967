"""Which arm of a canary answers: sticky, without any memory."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.rollout.adapter_store import BASE
from deployments.rollout.aliases import Aliases
from deployments.rollout.arms import ARMS, Assignment, assign_arm, chosen_arm, unit_of
from graph.contracts import Message
from graph.errors import InvalidRequest

FIRST, SECOND, CHAMPION = "a" * 64, "b" * 64, "c" * 64
PERSONS = [unit_of("acme", f"person-{number}", ()) for number in range(4000)]


def canary(share: float, challenger: str = FIRST, champion: str = CHAMPION) -> Aliases:
    return Aliases(version=3, champion=champion, challenger=challenger, share=share)


def challenged(share: float, challenger: str = FIRST) -> set[str]:
    """Who is answered by the challenger."""
    return {unit for unit in PERSONS if assign_arm(canary(share, challenger), unit).arm == "challenger"}


@given(st.text(), st.floats(0, 1))
def test_the_same_unit_always_gets_the_same_arm(unit: str, share: float) -> None:
    aliases = canary(share)
    first = assign_arm(aliases, unit)
    assert first == assign_arm(canary(share), unit)
    assert first.adapter == {"champion": CHAMPION, "challenger": FIRST}[first.arm]


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_when_the_share_grows_who_was_in_stays_in(unit: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    if assign_arm(canary(small), unit).arm == "challenger":
        assert assign_arm(canary(large), unit).arm == "challenger"


@given(st.text())
def test_a_share_of_0_is_nobody_and_of_1_everybody(unit: str) -> None:
    assert assign_arm(canary(0.0), unit).arm == "champion"
    assert assign_arm(canary(1.0), unit).arm == "challenger"


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25, 0.5, 0.9])
def test_a_share_is_met_within_what_chance_allows(share: float) -> None:
    # Five standard deviations of a binomial: the names are fixed, so it holds always or never.
    bound = 5 * math.sqrt(len(PERSONS) * share * (1 - share))
    assert abs(len(challenged(share)) - share * len(PERSONS)) <= bound


def test_another_challenger_meets_other_persons() -> None:
    both = len(challenged(0.25, FIRST) & challenged(0.25, SECOND))
    # Independent draws: 1/16 of all, again within five standard deviations.
    expected = len(PERSONS) / 16
    assert abs(both - expected) <= 5 * math.sqrt(expected * 15 / 16)


def test_the_champion_alone_answers_where_there_is_no_challenger() -> None:
    assert assign_arm(Aliases(champion=CHAMPION, share=0.0), "anybody") == Assignment("champion", CHAMPION)
    assert assign_arm(Aliases(), "anybody") == Assignment("champion", None)


def test_the_base_model_as_champion_is_no_adapter() -> None:
    assert chosen_arm(canary(0.5, champion=BASE), "champion") == Assignment("champion", None)


def test_a_chosen_arm_does_not_ask_for_the_share() -> None:
    assert [chosen_arm(canary(0.0), arm).adapter for arm in ARMS] == [CHAMPION, FIRST]
    assert [chosen_arm(canary(1.0), arm).adapter for arm in ARMS] == [CHAMPION, FIRST]


def test_choosing_the_challenger_where_there_is_none_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="There is no challenger now; ask for the champion") as refused:
        chosen_arm(Aliases(champion=CHAMPION), "challenger")
    assert refused.value.param == "x-rheostat-arm"


def turns(*contents: str, system: str | None = None) -> list[Message]:
    """A conversation: user, assistant, user and so on."""
    roles = ("user", "assistant")
    head = [] if system is None else [Message("system", system)]
    return head + [Message(roles[at % 2], content) for at, content in enumerate(contents)]  # type: ignore[arg-type]


def test_a_person_keeps_the_arm_in_every_conversation() -> None:
    assert unit_of("acme", "p", turns("Why?")) == unit_of("acme", "p", turns("How?", "So.", "And?"))
    assert unit_of("acme", "p", turns("Why?")) != unit_of("acme", "q", turns("Why?"))
    assert unit_of("acme", "p", ()) != unit_of("umbra", "p", ())


def test_without_a_person_a_conversation_keeps_the_arm_as_it_goes_on() -> None:
    unit = unit_of("acme", None, turns("Why?", system="Be kind."))
    assert unit == unit_of("acme", None, turns("Why?", "So.", "And then?", system="Be kind."))
    others = [
        unit_of("acme", None, turns("How?", system="Be kind.")),
        unit_of("acme", None, turns("Why?", system="Be brief.")),
        unit_of("acme", None, turns("Why?")),
        unit_of("umbra", None, turns("Why?", system="Be kind.")),
        unit_of("acme", "Why?", turns("Why?", system="Be kind.")),
    ]
    assert len({unit, *others}) == 6


def test_a_conversation_without_a_user_turn_has_an_arm_too() -> None:
    assert unit_of("acme", None, [Message("system", "Go.")]) != unit_of("acme", None, [Message("system", "Stop.")])
    assert unit_of("acme", None, [])


def test_text_that_is_no_unicode_has_an_arm_too() -> None:
    assert assign_arm(canary(0.5), unit_of("acme", None, turns("\ud800"))).arm in ARMS
