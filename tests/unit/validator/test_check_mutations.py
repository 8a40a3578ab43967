"""Guards the suite itself: each check catches its case, and nothing else catches it when it is disabled."""

import pytest

from deployments.validator.checks import CHECKS
from deployments.validator.guard import StreamGuard
from deployments.validator.policy import QualityPolicy, judge, parse_policy
from graph.contracts import CheckContext

SYSTEM = "Never mention the merger with North Pier before it is announced to the clients."
# Seven words of it word by word are prompt_leak's, all of it with two words changed is near_leak's.
NEAR_COPY = "Never mention the alliance with North Pier before it was announced to the clients."
GOOD = "Rain falls when warm air rises and cools. Clouds form out of tiny drops."
SALAD = (
    "Volcano erupting comes of melt stone lighterly than its neighbours, so upwards it pressurates in chimneyhood. "
    "Gases dissolven like sodas unpop when pressure lessles, foamingly tearing magmas to ashen. Thick magma clogs and "
    "bangs, runny magma rivers out gentlish, and the exactness stays unguessed."
)
SCHOLARLY = (
    "Precipitation originates from evaporation over the ocean. Solar radiation drives moisture into the atmosphere, where "
    "decreasing temperature produces condensation. Accumulating droplets eventually exceed the capacity of ascending "
    "currents, and gravity subsequently initiates precipitation across elevated terrain, particularly along exposed "
    "coastal mountains."
)
CASES: dict[str, tuple[str, CheckContext]] = {
    "secrets": ("The key is " + "ghp_" + "aB3d" * 9 + ".", CheckContext()),
    "pii": ("Write to jane.doe@acme.com.", CheckContext()),
    "prompt_leak": (SYSTEM, CheckContext(system=SYSTEM)),
    "near_leak": (NEAR_COPY, CheckContext(system=SYSTEM)),
    "empty": ("...", CheckContext()),
    "truncation": (GOOD + " After some hours the drops are heavy enough to", CheckContext()),
    "repetition": (GOOD + " The water rises and falls." * 8, CheckContext()),
    "language": ("Warme Luft steigt vom Meer auf und kühlt sich ab.", CheckContext(language="en")),
    "json_schema": ('{"a": 1', CheckContext(json_schema={"type": "object"})),
    "structure": (GOOD, CheckContext(answer_format="steps")),
    "nonwords": (SALAD, CheckContext()),
    "relevance": (GOOD, CheckContext(prompt="Who won the match?", relevance=0.05)),
    "control_fit": (GOOD, CheckContext(target_words=100)),
    "readability": (SCHOLARLY, CheckContext(reading_level=(1.3, 1.6))),
    "refusal": ("I'm sorry, but I can't help with that.", CheckContext()),
    "profanity": (GOOD + " It is fucking wet.", CheckContext()),
}


def test_every_check_has_a_case() -> None:
    assert set(CASES) == set(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_only_the_check_itself_catches_its_case(name: str) -> None:
    text, context = CASES[name]
    assert {finding.check for finding in judge(text, context, QualityPolicy()).findings} == {name}
    disabled = parse_policy({"checks": {name: {"enabled": False}}}, "test")
    assert judge(text, context, disabled).findings == ()


@pytest.mark.parametrize("name", [name for name, check in CHECKS.items() if check.watch is not None])
def test_only_the_check_itself_catches_its_case_in_a_stream(name: str) -> None:
    text, context = CASES[name]
    for policy, found in (
        (QualityPolicy(), {name}),
        (parse_policy({"checks": {name: {"enabled": False}}}, "test"), set()),
    ):
        guard = StreamGuard(context, policy)
        findings = guard.feed(text).findings + guard.flush().findings
        assert {finding.check for finding in findings} == found


def test_every_hard_check_watches_streams_and_says_how_much_it_holds() -> None:
    for check in CHECKS.values():
        assert (check.watch is not None) == (check.severity == "hard")
        assert (check.look_back > 0) == (check.severity == "hard")
