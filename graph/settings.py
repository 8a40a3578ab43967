"""Every setting of Rheostat, strict: an unknown key, a wrong type or an impossible value refuses to start.

``AppArgs`` is ``applications[].args`` of a Serve configuration: a change there restarts every replica, engines
included. The ``*Tunables`` are ``deployments[].user_config``: they change in place, through ``reconfigure``.
Importing this module imports neither ray nor torch nor vllm.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from deployments.generator.simulated import SimulatedSettings

PROJECT_ROOT = Path(__file__).resolve().parent.parent
HOME_VARIABLE = "RHEOSTAT_HOME"
"""Environment variable: the folder that relative paths start from. Default: the project's root."""


def project_path(path: str) -> Path:
    """``path`` itself when absolute (``~`` expanded), else below ``RHEOSTAT_HOME``."""
    return Path(os.environ.get(HOME_VARIABLE, PROJECT_ROOT), Path(path).expanduser())


class Strict(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSettings(Strict):
    """Which model is served, and under which name."""

    id: str = "smollm2-135m-instruct"
    """The name that clients send as ``model``."""
    path: str | None = None
    """A local folder or hub name. None: the packaged SmolLM2-135M-Instruct, prepared by ``make model``."""
    capabilities: tuple[Literal["reasoning"], ...] = ()
    """What the model can do that a control may need."""


class VllmSettings(Strict):
    """The vLLM engine. ``engine_args`` goes to ``AsyncEngineArgs`` as it is; vLLM refuses what it does not know."""

    engine_args: dict[str, Any] = Field(default_factory=dict)
    environment: dict[Annotated[str, Field(pattern=r"^VLLM_[A-Z0-9_]+$")], str] = Field(default_factory=dict)
    """vLLM's own environment variables (``VLLM_*``), set before it is imported."""
    batch_invariant: bool = False
    """Requests never change each other's answers: creativity 0 gives one text in any company. On CPUs it needs
    ``enforce_eager``; on GPUs it is vLLM's own mode, which not every model and attention backend has."""
    traced: bool = True
    """On CPUs with ``enforce_eager``, the layers run as one list of operators that is recorded at the start (2 s): the
    same answers with less Python. A model that cannot be recorded runs as it is."""


class EngineSettings(Strict):
    """Which engine answers."""

    kind: Literal["vllm", "simulated"] = "vllm"
    vllm: VllmSettings = VllmSettings()
    simulated: SimulatedSettings = SimulatedSettings()


class AuthSettings(Strict):
    """Who may call. Without a key file anyone who reaches the port may."""

    keys_file: str | None = None
    """One ``tenant sha256-of-the-key [interactive | standard | batch]`` a line; the last is the class that the key's
    requests wait in, standard where none is named. ``python -m deployments.ingress.auth TENANT [PRIORITY]`` makes one.
    """
    admin_tenants: tuple[str, ...] = ()
    """Tenants of that file that may read what concerns all tenants (``GET /v1/analysis``, ``GET /v1/quality``)."""


class AppArgs(Strict):
    """``args`` of the application: what a replica is built with."""

    model: ModelSettings = ModelSettings()
    engine: EngineSettings = EngineSettings()
    auth: AuthSettings = AuthSettings()
    controls_file: str = "configs/controls.yaml"
    calibration_file: str | None = None
    """What the model was measured to do at each level, as ``benchmarks.controls`` writes it; relative to the project.
    None: no promises are made."""
    quality_file: str = "configs/quality.yaml"
    metrics_file: str = "configs/metrics.yaml"
    """The metrics that feedback may speak of."""
    data_dir: str = "data"
    """Where the feedback log and the token key live."""
    registry_dir: str | None = None
    """Where adapters and their aliases live (``python -m training``), on a disk that all nodes share. None:
    ``registry`` below ``data_dir``."""
    token_key_file: str | None = None
    """The secret that signs feedback tokens, the same on every node. None: made once in ``data_dir``."""
    cors_origins: tuple[str, ...] = ()
    """Browser origins that may call; empty: none."""
    feedback_texts: Literal["keep", "redact", "drop"] = "keep"
    """Of prompts, answers and feedback texts in the log. redact: personal values and secrets are taken out first.
    drop: no text is stored; ids, scores and settings are."""
    isolate_tenants: bool = True
    """Salt the prefix cache by tenant, so that nobody learns from timings what others asked."""


def registry_path(args: AppArgs) -> Path:
    """The folder of the adapters' registry."""
    if args.registry_dir is not None:
        return project_path(args.registry_dir)
    return project_path(args.data_dir) / "registry"


class IngressTunables(Strict):
    """``user_config`` of Ingress."""

    max_inflight_choices: PositiveInt = 256
    """Answers in the making and texts being judged, per ingress replica; beyond it requests wait. Best what the engines
    answer at once, shared among the ingress replicas: what is more than that waits inside the engine, without order."""
    max_waiting_choices: NonNegativeInt = 256
    """Answers and texts that may wait for a place, per ingress replica; beyond it: 429 with Retry-After. Bounds memory
    (a waiting request holds its body); mostly ``max_wait_s`` is what decides. 0: nobody waits."""
    max_wait_s: PositiveFloat = 5.0
    """How long a request may wait for a place; one that is expected to wait longer is refused at once. SDKs that are
    refused twice have lost 2 to 10 s and then give up: a wait that is not longer than that is the better choice."""
    max_body_bytes: Annotated[int, Field(ge=1, le=2 << 20)] = 1 << 20
    """At most 2 MiB: the log's row of a request travels in one message, and those end at 4."""
    request_timeout_s: PositiveFloat = 300.0
    """The deadline of a request; a client may shorten it by ``x-request-timeout-seconds``, never lengthen it."""
    judge_timeout_s: PositiveFloat = 10.0
    """An answer that the validator pool has not judged by then leaves as ``unvalidated``; a request to ``/v1/validate``
    is refused."""
    delivery_reserve_s: PositiveFloat = 1.0
    """Time kept back from a regeneration for formatting and recording."""
    default_max_tokens: PositiveInt = 1024
    """Of an answer when neither the caller nor a dial says how long."""
    max_best_of: Annotated[int, Field(ge=1, le=8)] = 4
    """The most drafts of one answer that a request may ask for (``quality.best_of``); 1: the first is the answer."""
    feedback_token_days: PositiveInt = 30
    quality: dict[str, Any] | None = None
    """The quality policy that streams are guarded by: give the same as Validator's. None: ``quality_file``."""

    @model_validator(mode="after")
    def _reserve_fits(self) -> "IngressTunables":
        if self.delivery_reserve_s >= self.request_timeout_s:
            raise ValueError(
                f"delivery_reserve_s ({self.delivery_reserve_s}) must be below request_timeout_s "
                f"({self.request_timeout_s})"
            )
        return self


class ValidatorTunables(Strict):
    """``user_config`` of Validator."""

    quality: dict[str, Any] | None = None
    """A whole quality policy in place of ``quality_file``; None: the file."""


class FeedbackTunables(Strict):
    """``user_config`` of FeedbackLog."""

    queue_limit: PositiveInt = 10_000
    """Rows that may wait for the disk; beyond it: 503 with Retry-After."""
    segment_max_bytes: PositiveInt = 64 << 20
    segment_max_rows: PositiveInt = 100_000
    segment_max_age_s: PositiveFloat = 300.0
    """Bounds how long training waits for a row; analysis reads the open segment too."""
    compact_every_s: PositiveFloat = 600.0
    """How often sealed segments become Parquet; what was erased is gone from the disk then."""
    ship_to: str | None = None
    """A store for sealed segments and Parquet, as a pyarrow.fs URI such as ``s3://bucket/log``; None: none."""


class RolloutTunables(Strict):
    """``user_config`` of Rollout: when a canary is widened, promoted or rolled back."""

    poll_s: Annotated[float, Field(ge=0.05, le=60)] = 0.5
    """How often it looks."""
    canary_acts: bool = True
    """False: it counts and says what it would do; people act."""
    canary_shares: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (
        0.01,
        0.05,
        0.25,
        0.5,
    )
    """Of the traffic, rising, one stage after the other. The first is given by whoever starts the canary."""
    stage_answers: PositiveInt = 50
    """Outcomes of the canary in a stage before the next one begins."""
    outcomes_per_unit: PositiveInt = 5
    """How many answers of one person (or conversation, where nobody says who asks) count, in an arm and stage. With 1
    the error rates below hold however alike one person's answers are."""
    alpha_roll_back: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Of canaries that are no worse, the share that may be rolled back."""
    alpha_promote: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Of canaries that are worse by a margin, the share that may be promoted."""
    validator_margin: Annotated[float, Field(gt=0, lt=1)] = 0.05
    error_margin: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """How much worse the canary's rate of failed checks, or of answers that never arrived, may be for promotion."""
    min_answers: PositiveInt = 200
    """Of the canary before it may be promoted."""
    max_answers: PositiveInt | None = 10_000
    """Of the canary; one that is undecided by then is rolled back. None: never for that."""

    @model_validator(mode="after")
    def _shares_rise(self) -> "RolloutTunables":
        if list(self.canary_shares) != sorted(set(self.canary_shares)):
            raise ValueError(f"canary_shares must rise; got {list(self.canary_shares)}")
        return self


class NoTunables(Strict):
    """``user_config`` of a deployment that has none."""


USER_CONFIGS: dict[str, type[Strict]] = {
    "Ingress": IngressTunables,
    "Generator": NoTunables,
    "Validator": ValidatorTunables,
    "Formatter": NoTunables,
    "FeedbackLog": FeedbackTunables,
    "Rollout": RolloutTunables,
}
"""The graph's deployments by name, with the model of what changes in place."""
