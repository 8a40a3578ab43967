import pytest

from deployments.feedback.contracts import BUILT_IN, MetricContract, explain_unknown, load_contracts
from graph.errors import ConfigurationError
from tests.cluster import ROOT

SHIPPED = ROOT / "configs/metrics.yaml"


def load(tmp_path, metrics):
    path = tmp_path / "metrics.yaml"
    path.write_text(f"version: 1\nmetrics:\n{metrics}")
    return load_contracts(path)


def test_the_shipped_file_tells_of_the_built_in_metrics_what_the_code_says():
    shipped = load_contracts(SHIPPED)
    assert {name: shipped[name] for name in BUILT_IN} == dict(BUILT_IN)
    assert "wrong" in shipped["reason"].values


def test_a_teams_metrics_stand_beside_the_built_in_ones(tmp_path):
    contracts = load(
        tmp_path,
        "  resolved: {type: boolean, better: higher, description: Whether it helped.}\n"
        "  effort: {type: number, range: [0, 2.5], better: lower, unit: minutes}\n"
        "  topic: {type: label, values: [billing, other]}\n"
        "  scrolled: {type: implicit, range: [0, 100]}\n",
    )
    assert set(contracts) == {*BUILT_IN, "resolved", "effort", "topic", "scrolled"}
    assert contracts["effort"] == MetricContract("effort", "rating", 0.0, 2.5, (), "lower", "minutes")
    assert (contracts["resolved"].kind, contracts["resolved"].better) == ("thumb", "higher")
    assert contracts["topic"].values == ("billing", "other")


def test_a_built_in_metric_may_have_another_range(tmp_path):
    assert load(tmp_path, "  rating: {type: number, range: [0, 10], better: higher}\n")["rating"].highest == 10


@pytest.mark.parametrize(
    ("metrics", "line", "says"),
    [
        ("  stars: {type: numbr}\n", 3, "metrics.stars.type: got 'numbr'; must be one of: boolean, number, label"),
        ("  stars: {type: [number]}\n", 3, "must be one of: boolean"),
        ("  stars:\n    type: number\n    range: [1, 5]\n", 3, "better: is missing"),
        ("  stars:\n    type: number\n    better: higher\n", 3, "range: is missing"),
        ("  stars:\n    type: number\n    better: up\n    range: [1, 5]\n", 5, "must be higher or lower"),
        ("  stars:\n    type: number\n    better: higher\n    range: [5, 1]\n", 6, "must be [lowest, highest]"),
        ("  stars:\n    type: number\n    better: higher\n    range: [1, .inf]\n", 6, "must be [lowest, highest]"),
        ("  stars:\n    type: number\n    better: higher\n    range: [true, 5]\n", 6, "must be [lowest, highest]"),
        ("  why:\n    type: label\n    values: [a, a]\n", 5, "must be a list of different words"),
        ("  why:\n    type: label\n    values: []\n", 5, "must be a list of different words"),
        ("  why:\n    type: label\n    better: higher\n", 5, "is not a key of a label metric; known here: type"),
        ("  ok:\n    type: boolean\n    better: higher\n    scale: 2\n", 6, "scale: is not a key of a boolean metric"),
        ("  ok:\n    type: boolean\n    better: higher\n    unit: x\n", 6, "unit: is not a key of a boolean metric"),
        ("  ok: 5\n", 3, "must be a mapping with a type"),
        ("  two words: {type: label}\n", 3, "is no name for a metric"),
        ("  demonstration: {type: label}\n", 3, "is reserved"),
        ("  thumb: {type: label}\n", 3, "thumb is built in and stays boolean"),
        ("  ok: {type: label, description: 5}\n", 3, "must be a text"),
        ("  ok: {type: label}\n  ok: {type: label}\n", 4, "already given"),
    ],
)
def test_a_faulty_metric_stops_start_up_by_file_and_line(tmp_path, metrics, line, says):
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, metrics)
    assert refused.value.message.startswith(f"{tmp_path}/metrics.yaml:{line}: ")
    assert says in refused.value.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must be a mapping"),
        ("- a\n", "must be a mapping"),
        ("version: 2\nmetrics: {}\n", ":1: version: got 2; must be 1"),
        ("metrics: {}\n", "version: got None"),
        ("version: 1\n", "metrics: got None"),
        ("version: 1\nmetrics: {}\nmetric: {}\n", ":3: metric: is not a known key; known here: version, metrics"),
    ],
)
def test_a_file_of_another_shape_stops_start_up(tmp_path, text, says):
    path = tmp_path / "metrics.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load_contracts(path)
    assert says in refused.value.message


def test_every_fault_of_a_file_is_told_at_once(tmp_path):
    with pytest.raises(ConfigurationError) as refused:
        load(tmp_path, "  a: {type: x}\n  b: {type: y}\n")
    assert len(refused.value.message.splitlines()) == 2


@pytest.mark.parametrize(
    ("metric", "good", "bad"),
    [
        ("thumb", [True, False], [1, "true", None]),
        ("rating", [1, 5, 2.5], [0.99, 5.01, True, "4", None, 10**400]),
        ("label", ["x", "x" * 64], ["", "  ", "x" * 65, 5, None]),
        ("reason", ["wrong"], ["Wrong", "", None]),
        ("copied", [None], [True, 1]),
        ("dwell", [0, 604_800], [-1, 604_801, None, True]),
    ],
)
def test_a_value_is_held_to_its_contract(metric, good, bad):
    contract = load_contracts(SHIPPED)[metric]
    assert [contract.fault_of(value) for value in good] == [None] * len(good)
    assert all(contract.fault_of(value) for value in bad)


def test_an_unknown_metric_is_told_which_ones_there_are_and_what_was_perhaps_meant():
    told = explain_unknown("coppied", "implicit", BUILT_IN)
    assert "known implicit metrics: copied, regenerated, abandoned, dwell; did you mean 'copied'?" in told
    many = {f"m{n}": MetricContract(f"m{n}", "label") for n in range(100)}
    assert explain_unknown("x", "label", many).endswith("m19 and 80 more")
