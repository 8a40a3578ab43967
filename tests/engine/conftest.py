"""Engine tests need the prepared model; `make test` makes it."""

import pytest

from deployments.generator.model_store import resolve_model


@pytest.fixture(scope="session", autouse=True)
def _model_is_prepared() -> None:
    resolve_model(None)
