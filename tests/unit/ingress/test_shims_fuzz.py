"""Whatever JSON the shims get, it is an event or a refusal that names a field; never a bug."""

from typing import Any

from harness import CONTRACTS
from hypothesis import given
from hypothesis import strategies as st

from deployments.feedback.events import FeedbackEvent, parse_event
from deployments.ingress import langfuse, tensorzero
from graph.errors import InvalidRequest, RequestTooLarge

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([*CONTRACTS, "comment", "demonstration", "output"])


def bodies(fields: tuple[str, ...], good: dict[str, Any]) -> st.SearchStrategy[Any]:
    """A good body with any of its fields changed, or any JSON at all."""
    changes = st.dictionaries(st.sampled_from(fields) | st.text(max_size=4), JSON, max_size=4)
    return changes.map(lambda change: {**good, **change}) | JSON


def outcome(body: Any, translate: Any) -> None:
    try:
        event = translate(body)
        parse_event(event, CONTRACTS)
    except (InvalidRequest, RequestTooLarge):
        return
    assert set(event) <= set(FeedbackEvent.model_fields)


@given(bodies(tensorzero.FIELDS, {"inference_id": "g", "value": True}), NAMES)
def test_any_json_to_tensorzeros_route_is_an_event_or_a_refusal(body: Any, name: str) -> None:
    named = {"metric_name": name, **body} if isinstance(body, dict) else body
    outcome(named, lambda said: tensorzero.translate(said, CONTRACTS)[0])


@given(bodies(langfuse.FIELDS, {"traceId": "g", "value": 1}), NAMES)
def test_any_json_to_langfuses_route_is_an_event_or_a_refusal(body: Any, name: str) -> None:
    named = {"name": name, **body} if isinstance(body, dict) else body
    outcome(named, lambda said: langfuse.translate(said, CONTRACTS)[1])


@given(bodies(langfuse.FIELDS, {"traceId": "g", "value": 1, "name": "rating"}))
def test_an_update_of_any_score_is_an_event_or_nothing(body: Any) -> None:
    try:
        _, event = langfuse.translate(body, CONTRACTS)
        parse_event(event, CONTRACTS)
    except (InvalidRequest, RequestTooLarge):
        return
    said = langfuse.update(event, "01890a5d-ac96-774b-bcce-b302099a8057", "01890a5d-ac96-774b-bcce-b302099a8058")
    if said is not None:
        parse_event(said[1], CONTRACTS)
