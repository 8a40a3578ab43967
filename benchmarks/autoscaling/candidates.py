"""The autoscaling configurations that are compared, as a Serve configuration would say them."""

from typing import Any

POLICY = "deployments.generator.autoscaling:TtftPolicy"


def serves_default(target: float, time_scale: float = 1.0) -> dict[str, Any]:
    """Serve's policy with its own delays and reports, which ``time_scale`` below 1 makes as much shorter."""
    return {
        "target_ongoing_requests": target,
        "upscale_delay_s": 30.0 * time_scale,
        "downscale_delay_s": 600.0 * time_scale,
        "look_back_period_s": 30.0 * time_scale,
        "metrics_interval_s": 10.0 * time_scale,
    }


def serves_tuned(target: float) -> dict[str, Any]:
    """Serve's policy with the delays and reports that suit this load best: at once up, down after three minutes."""
    return {
        "target_ongoing_requests": target,
        "upscale_delay_s": 0.0,
        "downscale_delay_s": 180.0,
        "look_back_period_s": 10.0,
        "metrics_interval_s": 4.0,
    }


def ours(time_scale: float = 1.0, **settings: Any) -> dict[str, Any]:
    """Our policy, whose delays are its own."""
    return {
        "upscale_delay_s": 0.0,
        "downscale_delay_s": 0.0,
        "look_back_period_s": 10.0 * time_scale,
        "metrics_interval_s": 4.0 * time_scale,
        "policy": {"policy_function": POLICY, "policy_kwargs": settings},
    }
