"""The service as it is shipped, without starting it: its settings, and what it plans a request by."""

from pathlib import Path
from typing import Any

import yaml

from deployments.controls.calibration import load_calibration
from deployments.controls.catalogue import load_catalogue
from deployments.ingress.planning import ServiceFacts
from deployments.validator.policy import load_policy
from graph.settings import PROJECT_ROOT, AppArgs, IngressTunables, project_path

__all__ = ["CONFIG", "read_args", "read_facts"]

CONFIG = PROJECT_ROOT / "configs" / "serve" / "cpu.yaml"


def read_args(path: Path = CONFIG) -> AppArgs:
    """The application's arguments. Blocks on the disk."""
    return AppArgs.model_validate(_application(path)["args"])


def read_facts(path: Path = CONFIG) -> ServiceFacts:
    """What the ingress knows when it plans a request; all callers share one prefix cache. Blocks on the disk.

    Raises:
        ConfigurationError: A file that the configuration names is missing or faulty.
    """
    args = read_args(path)
    (ingress,) = [each for each in _application(path)["deployments"] if each["name"] == "Ingress"]
    catalogue = load_catalogue(project_path(args.controls_file))
    file = args.calibration_file
    return ServiceFacts(
        catalogue=catalogue,
        policy=load_policy(project_path(args.quality_file)),
        tunables=IngressTunables.model_validate(ingress["user_config"]),
        capabilities=frozenset(args.model.capabilities),
        salt_key=None,
        calibration=load_calibration(project_path(file), model=args.model.id, catalogue=catalogue) if file else None,
    )


def _application(path: Path) -> dict[str, Any]:
    (application,) = yaml.safe_load(path.read_text())["applications"]
    assert isinstance(application, dict)
    return application
