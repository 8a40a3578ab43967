"""Unit tests need no Ray: starting it is an error."""

import sys

import pytest
from hypothesis import settings

# A deadline is wall time: whatever else runs on the machine, other workers too, would fail a test by it.
settings.register_profile("unit", settings(), deadline=None)
settings.load_profile("unit")


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a unit test must not start Ray")

    if "ray" in sys.modules:
        monkeypatch.setattr(sys.modules["ray"], "init", refuse)
