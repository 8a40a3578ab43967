"""Every error of ours crosses a Ray handle whole and says what HTTP makes of it."""

import pickle

import pytest

from graph import errors
from graph.errors import RheostatError, as_rheostat_error

CLASSES = [getattr(errors, name) for name in errors.__all__ if isinstance(getattr(errors, name), type)]


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_pickles_with_all_that_it_carries(cls: type[RheostatError]) -> None:
    error = cls("what, allowed, next", "messages.0", "a_code")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert (copy.message, copy.param, copy.code, str(copy)) == (
        "what, allowed, next",
        "messages.0",
        "a_code",
        str(error),
    )


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_is_drawn_in_the_tree_and_has_a_status(cls: type[RheostatError]) -> None:
    assert errors.__doc__ is not None
    assert cls.__name__ in errors.__doc__
    assert issubclass(cls, RheostatError)
    assert 400 <= cls.http_status <= 504
    assert cls("m").code == cls.default_code


def test_only_what_may_succeed_in_a_few_seconds_is_retryable() -> None:
    assert {cls.__name__ for cls in CLASSES if cls.retryable} == {"Overloaded", "Unavailable"}


def test_a_foreign_error_tells_nothing_of_itself() -> None:
    assert "secret" not in as_rheostat_error(ValueError("secret")).message
    assert as_rheostat_error(TimeoutError()).http_status == 503
