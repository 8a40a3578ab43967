"""Checks a Serve configuration the way Ray does not: every unknown or misspelt key, by its path.

``python -m graph.check_config FILE`` prints one line a fault and exits with 1; with 0 when there is none. Ray Serve
ignores keys that it does not know (``max_ongoing_request``, ``http_option``), so a typo silently keeps a default.
"""

import difflib
import sys
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from graph.errors import ConfigurationError
from graph.settings import USER_CONFIGS, AppArgs, project_path

if TYPE_CHECKING:
    from deployments.validator.policy import QualityPolicy

IMPORT_PATH = "graph.app:build"
PREFIX_ROUTER = "deployments.generator.prefix_router:PrefixRouter"
SCALING_POLICY = "deployments.generator.autoscaling:TtftPolicy"


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML keeps the last of two equal keys; here the second is a fault."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def faults_of(path: Path) -> list[str]:
    """One text a fault, ``path.to.key: what is wrong; what is allowed``; empty when the file is good.

    Also loads the catalogue, the policy and the other files that ``args`` name, so that a deploy cannot fail on them.
    """
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except OSError as error:
        return [f"{path}: cannot be read ({error.strerror})"]
    except UnicodeDecodeError as error:
        return [f"{path}: not UTF-8: {error}"]
    except yaml.YAMLError as error:
        return [f"{path}: not YAML: {' '.join(str(error).split())}"]
    if not isinstance(value, dict):
        return [f"{path}: expected a mapping with 'applications'"]
    return list(_faults(value))


def _faults(config: dict[str, Any]) -> Iterator[str]:
    from ray.serve.schema import ServeDeploySchema

    yield from _unknown_keys(config, ServeDeploySchema, "")
    stripped = {key: value for key, value in config.items() if key in ServeDeploySchema.model_fields}
    try:
        ServeDeploySchema.model_validate(stripped)
    except ValidationError as error:
        yield from _validation_faults(error, "")
    except (ImportError, AttributeError) as error:
        # Serve imports what a router's or a policy's path names as soon as it reads the path.
        yield f"applications: names a class or function that cannot be imported: {error}"
    applications = config.get("applications")
    if not isinstance(applications, list):
        return
    for index, application in enumerate(applications):
        if isinstance(application, dict):
            yield from _application_faults(application, f"applications.{index}")


def _application_faults(application: dict[str, Any], where: str) -> Iterator[str]:
    found = application.get("import_path")
    if found != IMPORT_PATH:
        yield f"{where}.import_path: is {found!r}, expected {IMPORT_PATH!r}"
        return
    policies: dict[str, tuple[str, Any]] = {}
    has_misread = False
    args = AppArgs()
    try:
        args = AppArgs.model_validate(application.get("args") or {})
    except ValidationError as error:
        has_misread = True
        yield from _validation_faults(error, f"{where}.args.", AppArgs)
    else:
        yield from _file_faults(args, f"{where}.args")
    for index, deployment in enumerate(application.get("deployments") or ()):
        here = f"{where}.deployments.{index}"
        name = deployment.get("name") if isinstance(deployment, dict) else None
        if name not in USER_CONFIGS:
            yield f"{here}.name: {name!r} is no deployment of the graph{_hint(str(name), USER_CONFIGS)}"
            continue
        model = USER_CONFIGS[name]
        try:
            tunables = model.model_validate(deployment.get("user_config") or {})
        except ValidationError as error:
            has_misread = True
            yield from _validation_faults(error, f"{here}.user_config.", model)
        else:
            policies[name] = (f"{here}.user_config.quality", getattr(tunables, "quality", None))
            yield from _policy_faults(tunables, f"{here}.user_config.quality")
        yield from _scaling_faults(deployment, None if has_misread else args, here)
        if name == "Generator":
            yield from _router_faults(deployment.get("request_router_config"), f"{here}.request_router_config")
    if not has_misread:
        yield from _policy_difference(args, policies, where)


def _router_faults(config: Any, where: str) -> Iterator[str]:
    """Where no router is named Serve takes its own, and arguments reach ours only when the service runs."""
    from deployments.generator.placement import PlacementSettings

    if not isinstance(config, dict):
        return
    named = config.get("request_router_class")
    if named is None:
        yield f"{where}.request_router_class: is not given, which is Serve's own router; write {PREFIX_ROUTER}"
    elif str(named).replace(":", ".") != PREFIX_ROUTER.replace(":", "."):
        if str(named).startswith("deployments."):
            yield f"{where}.request_router_class: {named!r} is no router of the graph; did you mean {PREFIX_ROUTER!r}?"
    else:
        try:
            PlacementSettings.model_validate(config.get("request_router_kwargs") or {})
        except ValidationError as error:
            yield from _validation_faults(error, f"{where}.request_router_kwargs.", PlacementSettings)


def _scaling_faults(deployment: dict[str, Any], args: AppArgs | None, where: str) -> Iterator[str]:
    """Serve meets the settings of our scaling policy only in its controller, and puts its own delays on top."""
    from deployments.generator.autoscaling import ScalingSettings

    given = deployment.get("autoscaling_config")
    config: dict[str, Any] = given if isinstance(given, dict) else {}
    policy: dict[str, Any] = config["policy"] if isinstance(config.get("policy"), dict) else {}
    named = str(policy.get("policy_function", "")).replace(":", ".")
    if not named.startswith("deployments."):
        return
    where = f"{where}.autoscaling_config"
    if named != SCALING_POLICY.replace(":", "."):
        yield f"{where}.policy.policy_function: {named!r} is no policy of the graph; did you mean {SCALING_POLICY!r}?"
        return
    if deployment["name"] != "Generator":
        yield f"{where}.policy: {SCALING_POLICY} goes by what engines report, and {deployment['name']} has none"
        return
    for key in ("upscale_delay_s", "downscale_delay_s"):
        if config.get(key) != 0:
            yield f"{where}.{key}: Serve's delay comes on top of the policy's own; set 0"
    for key in ("upscaling_factor", "downscaling_factor", "downscale_to_zero_delay_s"):
        if config.get(key) is not None:
            yield f"{where}.{key}: changes what the policy decides; leave it out"
    try:
        settings = ScalingSettings.model_validate(policy.get("policy_kwargs") or {})
    except ValidationError as error:
        yield from _validation_faults(error, f"{where}.policy.policy_kwargs.", ScalingSettings)
        return
    if settings.zero_after_s is not None and config.get("min_replicas", 1) != 0:
        least = config.get("min_replicas", 1)
        yield f"{where}.policy.policy_kwargs.zero_after_s: needs min_replicas: 0, which is {least}"
    limits = {"max_ongoing_requests": deployment.get("max_ongoing_requests"), **_engine_limit(args)}
    for key, limit in limits.items():
        if isinstance(limit, int) and settings.slots > limit:
            yield (
                f"{where}.policy.policy_kwargs.slots: {settings.slots} is above {key} ({limit}), which no replica "
                "exceeds: no load would ever look full"
            )


def _engine_limit(args: AppArgs | None) -> dict[str, Any]:
    """How many requests the engine runs at once, by the setting's path; empty where it is not said."""
    if args is None:
        return {}
    if args.engine.kind == "vllm":
        return {"args.engine.vllm.engine_args.max_num_seqs": args.engine.vllm.engine_args.get("max_num_seqs")}
    capacity = args.engine.simulated.capacity
    return {} if capacity is None else {"args.engine.simulated.capacity.max_running": capacity.max_running}


def _policy_difference(args: AppArgs, given: dict[str, tuple[str, Any]], where: str) -> Iterator[str]:
    """A fault when the pool judges by one policy and the ingress guards streams by another."""
    from deployments.validator.policy import load_policy, parse_policy

    names = ("Validator", "Ingress")
    found = [given.get(name, (f"{where}.deployments.{name}.user_config.quality", None)) for name in names]
    keys, overrides = zip(*found, strict=True)
    if overrides[0] == overrides[1]:
        return
    try:
        policies = [
            load_policy(project_path(args.quality_file)) if override is None else parse_policy(override, key)
            for key, override in zip(keys, overrides, strict=True)
        ]
    except ConfigurationError:
        return  # told already
    if policies[0] != policies[1]:
        shown = [
            f"{key} ({name}{f', not given: {args.quality_file}' if override is None else ''})"
            for name, key, override in zip(names, keys, overrides, strict=True)
        ]
        yield (
            f"{shown[0]} and {shown[1]} are two policies: texts are judged by the one and streams guarded by the "
            "other; give the same to both, or to neither and change the file"
        )


def _policy_faults(tunables: BaseModel, where: str) -> Iterator[str]:
    from deployments.validator.policy import parse_policy

    policy = getattr(tunables, "quality", None)
    if policy is None:
        return
    try:
        _check_slots(parse_policy(policy, where), where)
    except ConfigurationError as error:
        yield error.message


def _check_slots(policy: "QualityPolicy", where: str) -> None:
    """Raises ConfigurationError unless the folder of every required model is what the policy pins; loads none."""
    from deployments.validator.model_slots import verify_folder

    for name, slot in policy.models.items():
        if slot.enabled and slot.required:
            verify_folder(name, slot, where)


def _file_faults(args: AppArgs, where: str) -> Iterator[str]:
    from deployments.controls.calibration import load_calibration
    from deployments.controls.catalogue import load_catalogue
    from deployments.feedback.contracts import load_contracts
    from deployments.validator.policy import load_policy

    def load_with_catalogue(path: Path) -> object:
        try:
            catalogue = load_catalogue(project_path(args.controls_file))
        except ConfigurationError:
            return None  # told of the catalogue itself
        return load_calibration(path, model=args.model.id, catalogue=catalogue)

    def load_policy_with_models(path: Path) -> object:
        policy = load_policy(path)
        _check_slots(policy, str(path))
        return policy

    loaders: tuple[tuple[str, str | None, Callable[[Path], object]], ...] = (
        ("controls_file", args.controls_file, load_catalogue),
        ("calibration_file", args.calibration_file, load_with_catalogue),
        ("quality_file", args.quality_file, load_policy_with_models),
        ("metrics_file", args.metrics_file, load_contracts),
    )
    for key, name, load in loaders:
        if name is None:
            continue
        try:
            load(project_path(name))
        except ConfigurationError as error:
            yield f"{where}.{key}: {error.message}"


def _validation_faults(error: ValidationError, prefix: str, model: type[BaseModel] | None = None) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_input=False):
        path = prefix + ".".join(map(str, fault["loc"]))
        if fault["type"] == "extra_forbidden":
            known = _fields_at(model, fault["loc"][:-1]) if model else ()
            yield f"{path}: unknown key{_hint(str(fault['loc'][-1]), known)}"
        else:
            yield f"{path}: {fault['msg'].removeprefix('Value error, ')}"


def _unknown_keys(value: Any, model: type[BaseModel], where: str) -> Iterator[str]:
    """Keys of ``value`` that ``model`` does not have, and so on down the models that it holds."""
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        field = model.model_fields.get(str(key))
        path = f"{where}{key}"
        if field is None:
            yield f"{path}: unknown key{_hint(str(key), model.model_fields)}"
            continue
        for inner_model in _models_in(field.annotation):
            items = inner if isinstance(inner, list) else [inner]
            for index, item in enumerate(items):
                here = f"{path}.{index}." if isinstance(inner, list) else f"{path}."
                yield from _unknown_keys(item, inner_model, here)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (list, tuple, Union, UnionType) or get_args(annotation):
        for argument in get_args(annotation):
            yield from _models_in(argument)


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    current: list[type[BaseModel]] = [model]
    for part in location:
        current = [
            inner
            for outer in current
            for inner in _models_in(
                outer.model_fields[str(part)].annotation if str(part) in outer.model_fields else None
            )
        ]
    return [name for found in current for name in found.model_fields]


def _hint(key: str, known: Any) -> str:
    names = sorted(map(str, known))
    near = difflib.get_close_matches(key, names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; allowed: {', '.join(names)}" if names else ""


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        print("usage: python -m graph.check_config FILE", file=sys.stderr)
        return 2
    faults = faults_of(Path(argv[0]))
    for fault in faults:
        print(fault)
    print(f"{argv[0]}: {len(faults)} fault(s)" if faults else f"{argv[0]}: good", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
