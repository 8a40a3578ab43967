"""Shipped configurations are good; every seeded mistake in one is named by its path."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from graph.check_config import PREFIX_ROUTER, SCALING_POLICY, faults_of, main
from graph.settings import USER_CONFIGS
from tests.cluster import ROOT

SHIPPED = [ROOT / "serve_config.yaml", *sorted((ROOT / "configs/serve").glob("*.yaml"))]


def app(config: dict[str, Any]) -> dict[str, Any]:
    return config["applications"][0]


def deployment(config: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in app(config)["deployments"] if entry["name"] == name)


def scale(config: dict[str, Any], kwargs: dict[str, Any], name: str = "Generator", **changes: Any) -> None:
    """Puts a deployment of the CPU configuration, which has room for 32 requests in its engine, under our policy."""
    entry = deployment(config, name)
    del entry["num_replicas"]
    policy = {"policy_function": SCALING_POLICY, "policy_kwargs": {"slots": 16, "setup_s": 30, **kwargs}}
    entry["autoscaling_config"] = {"upscale_delay_s": 0, "downscale_delay_s": 0, "policy": policy, **changes}


def deployment_without(config: dict[str, Any], key: str) -> None:
    scale(config, {})
    del deployment(config, "Generator")["autoscaling_config"][key]


SCALING = "applications.0.deployments.1.autoscaling_config"
SLOT = {"path": "none", "sha256": "0" * 64, "kind": "text", "label": "toxic", "at_most": 0.5}
MISTAKES: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("a misspelt top key", lambda c: c.update(http_option={}), "http_option: unknown key; did you mean 'http_options'?"),
    ("a misspelt HTTP option", lambda c: c["http_options"].update(prot=1), "http_options.prot: unknown key; did you mean 'port'"),
    ("a misspelt application key", lambda c: app(c).update(argz={}), "applications.0.argz: unknown key; did you mean 'args'"),
    ("a misspelt deployment key", lambda c: deployment(c, "Generator").update(max_ongoing_request=9),
     "applications.0.deployments.1.max_ongoing_request: unknown key; did you mean 'max_ongoing_requests'"),
    ("a misspelt autoscaling key", lambda c: deployment(c, "Generator").update(autoscaling_config={"min_replica": 1}),
     "applications.0.deployments.1.autoscaling_config.min_replica: unknown key; did you mean 'min_replicas'"),
    ("a misspelt actor option", lambda c: deployment(c, "Generator")["ray_actor_options"].update(num_gpu=1),
     "applications.0.deployments.1.ray_actor_options.num_gpu: unknown key; did you mean 'num_gpus'"),
    ("an unknown deployment", lambda c: deployment(c, "Validator").update(name="Validater"),
     "applications.0.deployments.2.name: 'Validater' is no deployment of the graph; did you mean 'Validator'"),
    ("a misspelt setting", lambda c: app(c)["args"].update(modle={}), "applications.0.args.modle: unknown key; did you mean 'model'"),
    ("a misspelt engine setting", lambda c: app(c)["args"]["engine"].update(kinds="x"),
     "applications.0.args.engine.kinds: unknown key; did you mean 'kind'"),
    ("an engine that does not exist", lambda c: app(c)["args"]["engine"].update(kind="tgi"), "'vllm' or 'simulated'"),
    ("a misspelt user_config key", lambda c: deployment(c, "Ingress")["user_config"].update(request_timeout=5),
     "applications.0.deployments.0.user_config.request_timeout: unknown key; did you mean 'request_timeout_s'"),
    ("an impossible value", lambda c: deployment(c, "Ingress")["user_config"].update(max_body_bytes=-1),
     "applications.0.deployments.0.user_config.max_body_bytes"),
    ("values that do not fit each other", lambda c: deployment(c, "Ingress")["user_config"].update(request_timeout_s=0.5),
     "delivery_reserve_s"),
    ("a user_config where there is none", lambda c: deployment(c, "Formatter").update(user_config={"x": 1}), "user_config.x"),
    ("a catalogue that is not there", lambda c: app(c)["args"].update(controls_file="configs/none.yaml"),
     "applications.0.args.controls_file"),
    ("a calibration that is not there", lambda c: app(c)["args"].update(calibration_file="configs/calibration/none.json"),
     "applications.0.args.calibration_file"),
    ("a calibration that is none", lambda c: app(c)["args"].update(calibration_file="configs/controls.yaml"),
     "applications.0.args.calibration_file"),
    ("metrics that are not there", lambda c: app(c)["args"].update(metrics_file="configs/none.yaml"),
     "applications.0.args.metrics_file"),
    ("a policy that is not there", lambda c: app(c)["args"].update(quality_file="configs/none.yaml"),
     "applications.0.args.quality_file"),
    ("a policy of the Validator's with a misspelt key", lambda c: deployment(c, "Validator").update(user_config={"quality": {"chekcs": {}}}),
     "applications.0.deployments.2.user_config.quality: chekcs: got 'chekcs': no such key"),
    ("a policy of the Ingress's with a model that is not there", lambda c: deployment(c, "Ingress")["user_config"].update(quality={"models": {"toxicity": SLOT}}),
     "applications.0.deployments.0.user_config.quality: models.toxicity.path: got 'none': there is no folder"),
    ("a misspelt setting of the router", lambda c: deployment(c, "Generator").update(request_router_config={"request_router_class": PREFIX_ROUTER, "request_router_kwargs": {"bounds": 1.5}}),
     "applications.0.deployments.1.request_router_config.request_router_kwargs.bounds: unknown key; did you mean 'bound'"),
    ("an impossible setting of the router", lambda c: deployment(c, "Generator").update(request_router_config={"request_router_class": PREFIX_ROUTER, "request_router_kwargs": {"bound": 0.5}}),
     "applications.0.deployments.1.request_router_config.request_router_kwargs.bound: Input should be greater"),
    ("a misspelt router", lambda c: deployment(c, "Generator").update(request_router_config={"request_router_class": PREFIX_ROUTER + "r"}),
     f"request_router_class: '{PREFIX_ROUTER}r' is no router of the graph; did you mean '{PREFIX_ROUTER}'?"),
    ("settings of a router that is not named", lambda c: deployment(c, "Generator").update(request_router_config={"request_router_kwargs": {"bound": 1.5}}),
     f"applications.0.deployments.1.request_router_config.request_router_class: is not given, which is Serve's own router; write {PREFIX_ROUTER}"),
    ("a misspelt setting of the policy", lambda c: scale(c, {"slot": 16}),
     f"{SCALING}.policy.policy_kwargs.slot: unknown key; did you mean 'slots'"),
    ("an impossible setting of the policy", lambda c: scale(c, {"utilization": 80}), f"{SCALING}.policy.policy_kwargs.utilization: Input should be less"),
    ("a policy without its settings", lambda c: scale(c, {}, policy={"policy_function": SCALING_POLICY}),
     f"{SCALING}.policy.policy_kwargs.slots: Field required"),
    ("a misspelt policy", lambda c: scale(c, {}, policy={"policy_function": "deployments.generator.autoscaling:Ttft"}),
     f"{SCALING}.policy.policy_function: 'deployments.generator.autoscaling.Ttft' is no policy of the graph; did you mean '{SCALING_POLICY}'"),
    ("the policy on a deployment without an engine", lambda c: scale(c, {}, "Validator"),
     "applications.0.deployments.2.autoscaling_config.policy: deployments.generator.autoscaling:TtftPolicy goes by what engines report"),
    ("Serve's delay on top of the policy's", lambda c: deployment_without(c, "downscale_delay_s"), f"{SCALING}.downscale_delay_s: Serve's delay comes on top"),
    ("a factor on top of the policy", lambda c: scale(c, {}, upscaling_factor=0.5), f"{SCALING}.upscaling_factor: changes what the policy decides"),
    ("scaling to zero that is not allowed", lambda c: scale(c, {"zero_after_s": 60}), f"{SCALING}.policy.policy_kwargs.zero_after_s: needs min_replicas: 0, which is 1"),
    ("more slots than the engine runs at once", lambda c: (app(c)["args"]["engine"]["vllm"]["engine_args"].update(max_num_seqs=32), scale(c, {"slots": 33})),
     f"{SCALING}.policy.policy_kwargs.slots: 33 is above args.engine.vllm.engine_args.max_num_seqs (32)"),
    ("more slots than Serve gives a replica", lambda c: scale(c, {"slots": 129}), "slots: 129 is above max_ongoing_requests (128)"),
    ("another builder", lambda c: app(c).update(import_path="graph.app:built"), "applications.0.import_path"),
    ("a replica number of the wrong type", lambda c: deployment(c, "Generator").update(num_replicas="two"), "num_replicas"),
]  # fmt: skip


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_configuration_has_no_fault_and_names_every_deployment(path: Path) -> None:
    assert faults_of(path) == []
    config = yaml.safe_load(path.read_text())
    assert {entry["name"] for entry in app(config)["deployments"]} == set(USER_CONFIGS)


def test_our_policy_is_no_fault_where_it_fits(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "configs/serve/cpu.yaml").read_text())
    scale(config, {"slots": 32, "zero_after_s": 600}, min_replicas=0, max_replicas=4)
    path = tmp_path / "scaled.yaml"
    path.write_text(yaml.safe_dump(config))
    assert faults_of(path) == []


@pytest.mark.parametrize(("spoil", "named"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_a_mistake_is_named_by_its_path(spoil: Callable[[Any], Any], named: str, tmp_path: Path) -> None:
    config = copy.deepcopy(yaml.safe_load((ROOT / "configs/serve/cpu.yaml").read_text()))
    spoil(config)
    spoilt = tmp_path / "spoilt.yaml"
    spoilt.write_text(yaml.safe_dump(config))
    faults = faults_of(spoilt)
    assert any(named in fault for fault in faults), faults


NOTING = {"checks": {"pii": {"on_fail": "note"}}}
DEFAULT = {"checks": {"pii": {"on_fail": "fix"}}}


def faults_with(tmp_path: Path, policies: dict[str, dict[str, Any] | None]) -> list[str]:
    """The faults of the CPU configuration with these policies in ``user_config``; None: the deployment is left out."""
    config = yaml.safe_load((ROOT / "configs/serve/cpu.yaml").read_text())
    for name, policy in policies.items():
        if policy is None:
            app(config)["deployments"].remove(deployment(config, name))
        else:
            deployment(config, name)["user_config"] = {"quality": policy}
    path = tmp_path / "policies.yaml"
    path.write_text(yaml.safe_dump(config))
    return faults_of(path)


@pytest.mark.parametrize(
    ("policies", "told"),
    [
        ({"Validator": NOTING}, ["deployments.2.user_config.quality (Validator)",
                                 "deployments.0.user_config.quality (Ingress, not given: configs/quality.yaml)"]),
        ({"Ingress": NOTING}, ["deployments.2.user_config.quality (Validator, not given: configs/quality.yaml)",
                               "deployments.0.user_config.quality (Ingress)"]),
        ({"Validator": NOTING, "Ingress": DEFAULT}, ["(Validator)", "(Ingress)"]),
        ({"Validator": NOTING, "Ingress": None}, ["deployments.Ingress.user_config.quality (Ingress, not given"]),
    ],
)  # fmt: skip
def test_two_policies_are_a_fault_that_names_both_and_says_what_to_do(
    policies: dict[str, dict[str, Any] | None], told: list[str], tmp_path: Path
) -> None:
    (fault,) = faults_with(tmp_path, policies)
    assert all(part in fault for part in [*told, "give the same to both, or to neither"]), fault


@pytest.mark.parametrize(
    "policies",
    [{"Validator": NOTING, "Ingress": NOTING}, {"Validator": DEFAULT}, {"Validator": {}, "Ingress": DEFAULT}, {"Ingress": None}],
)  # fmt: skip
def test_policies_that_say_the_same_are_no_fault(policies: dict[str, dict[str, Any] | None], tmp_path: Path) -> None:
    assert faults_with(tmp_path, policies) == []


def test_a_policy_that_is_none_is_told_once(tmp_path: Path) -> None:
    (fault,) = faults_with(tmp_path, {"Validator": {"chekcs": {}}})
    assert "no such key" in fault


def test_a_file_that_is_no_utf_8_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("applications: é".encode("latin-1"))
    (fault,) = faults_of(path)
    assert "latin.yaml: not UTF-8" in fault


def test_a_key_that_is_there_twice_is_a_fault(tmp_path: Path) -> None:
    twice = tmp_path / "twice.yaml"
    twice.write_text("proxy_location: HeadOnly\nproxy_location: EveryNode\napplications: []\n")
    assert "twice" in faults_of(twice)[0]


def test_the_command_prints_faults_and_says_so_by_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt = tmp_path / "spoilt.yaml"
    spoilt.write_text("applicatoins: []\n")
    assert main([str(spoilt)]) == 1
    assert "did you mean 'applications'" in capsys.readouterr().out
    assert main([str(SHIPPED[0])]) == 0
    assert main([]) == 2
