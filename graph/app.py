"""The whole graph. Each arrow is a handle; each box is one deployment under ``deployments/``.

    client ──HTTP──> Ingress ──> Generator     one engine a replica; token deltas come back
                        ├──────> Validator     CPU pool: judges a whole answer
                        ├──────> Formatter     gives it its final shape
                        ├──────> FeedbackLog   generations and feedback, on disk before the ack
                        └──────> Rollout ──> FeedbackLog    watches the canary; decisions into the log

A Serve configuration names this builder (``import_path: graph.app:build``) and its ``args``; numbers of replicas,
limits and what changes in place stand under ``deployments`` there, by these names.
"""

from ray.serve import Application

from deployments.feedback.deployment import FeedbackLog
from deployments.formatter.deployment import Formatter
from deployments.generator.deployment import Generator
from deployments.ingress.deployment import Ingress
from deployments.rollout.deployment import Rollout
from deployments.validator.deployment import Validator
from graph.settings import AppArgs


def build(args: AppArgs) -> Application:
    """The application for ``args``; unknown keys in them were refused before this is called."""
    # As plain data: replicas validate it again, so that a version skew between nodes is an error and not a guess.
    plain = args.model_dump(mode="json")
    feedback_log = FeedbackLog.bind(plain)
    return Ingress.bind(
        plain,
        generator=Generator.bind(plain),
        validator=Validator.bind(plain),
        formatter=Formatter.bind(),
        feedback_log=feedback_log,
        rollout=Rollout.bind(plain, feedback_log=feedback_log),
    )
