"""What Ray raises becomes one of our errors at one place; a new kind of theirs fails here."""

import pytest
import ray.exceptions
from ray.serve import exceptions as serve_exceptions

from deployments.ingress.handles import ours
from graph.errors import InternalError, InvalidRequest, RheostatError, Unavailable


def from_a_replica(error: Exception) -> Exception:
    """``error`` as it looks after it crossed a handle."""
    crossed: Exception = ray.exceptions.RayTaskError("generate", "traceback", error).as_instanceof_cause()
    return crossed


def test_our_own_error_comes_through_as_it_was_without_rays_traceback() -> None:
    sent = InvalidRequest("too long", "messages", "context_length_exceeded")
    got = ours(from_a_replica(sent), "generator")
    assert type(got) is InvalidRequest
    assert (got.message, got.param, got.code) == ("too long", "messages", "context_length_exceeded")


def test_a_bug_in_a_replica_is_an_internal_error_that_tells_nothing() -> None:
    got = ours(from_a_replica(KeyError("inside")), "validator")
    assert isinstance(got, InternalError)
    assert "inside" not in got.message


@pytest.mark.parametrize(
    "error",
    [
        serve_exceptions.BackPressureError(num_queued_requests=1, max_queued_requests=1),
        serve_exceptions.DeploymentUnavailableError(None),
        serve_exceptions.RequestCancelledError("x"),
        ray.exceptions.ActorDiedError(),
        ray.exceptions.ActorUnavailableError("x", None),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_stage_that_is_full_gone_or_late_is_a_503_to_come_back_to(error: Exception) -> None:
    got = ours(error, "generator")
    assert isinstance(got, Unavailable)
    assert got.retryable
    assert "generator" in got.message


def test_every_exception_of_serves_is_mapped_to_one_of_ours() -> None:
    known = {
        "BackPressureError",
        "DeploymentUnavailableError",
        "ReplicaUnavailableError",
        "RequestCancelledError",
        "RayServeException",
    }
    ingress_only = {"gRPCStatusError", "RayServeConfigException", "DeploymentIsBeingDeletedError"}
    found = {
        name
        for name, value in vars(serve_exceptions).items()
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == serve_exceptions.__name__
    }
    assert found <= known | ingress_only, f"decide what becomes of {found - known - ingress_only}"
    assert issubclass(type(ours(serve_exceptions.RayServeException("x"), "x")), RheostatError)
