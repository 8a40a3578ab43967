"""Every error that Rheostat raises on purpose, with the HTTP answer it becomes.

    RheostatError                     500 internal_error
    ├── InvalidRequest (ValueError)   400 invalid_value
    ├── Unauthenticated               401 invalid_api_key
    ├── PermissionDenied              403 permission_denied
    ├── NotFound (LookupError)        404 unknown_url | model_not_found | not_found
    ├── MethodNotAllowed              405 method_not_allowed
    ├── Conflict                      409 conflict
    ├── RequestTooLarge               413 request_too_large
    ├── UnsupportedMediaType          415 unsupported_media_type
    ├── Overloaded                    429 slow_down            come back in 1-5 s
    ├── Unavailable                   503 server_is_overloaded come back in 1-5 s
    ├── DeadlineExceeded              504 deadline_exceeded    do not repeat: it would redo a whole generation
    ├── InternalError                 500 internal_error
    └── ConfigurationError (ValueError)   never on HTTP: start-up refuses

To add one: subclass, set the three class attributes, draw it above. Errors cross Ray handles, so they
must pickle: keep the constructor's signature, or override ``__reduce__``; a test pickles every class.
"""

from typing import Any, ClassVar

__all__ = [
    "ConfigurationError",
    "Conflict",
    "DeadlineExceeded",
    "InternalError",
    "InvalidRequest",
    "MethodNotAllowed",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "RequestTooLarge",
    "RheostatError",
    "Unauthenticated",
    "Unavailable",
    "UnsupportedMediaType",
    "as_rheostat_error",
]


class RheostatError(Exception):
    """The root. ``message`` names the value got, what is allowed and the next step, and never a stack trace.

    Args:
        message: For the person who reads the answer.
        param: Dotted path of the request field at fault, or None.
        code: Machine-readable reason; None takes the class's default.
    """

    http_status: ClassVar[int] = 500
    error_type: ClassVar[str] = "server_error"
    default_code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False
    """Whether the same request may succeed in a few seconds: decides Retry-After and ``x-should-retry``."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.default_code

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.param, self.code)


class InvalidRequest(RheostatError, ValueError):
    """The caller sent something that cannot be served as asked."""

    http_status = 400
    error_type = "invalid_request_error"
    default_code = "invalid_value"


class Unauthenticated(RheostatError):
    """No API key, or one that is not known."""

    http_status = 401
    error_type = "invalid_request_error"
    default_code = "invalid_api_key"


class PermissionDenied(RheostatError):
    """A known caller who may not do this."""

    http_status = 403
    error_type = "invalid_request_error"
    default_code = "permission_denied"


class NotFound(RheostatError, LookupError):
    """No such path, model or record, or none that this tenant may see."""

    http_status = 404
    error_type = "invalid_request_error"
    default_code = "not_found"


class MethodNotAllowed(RheostatError):
    """The path exists, the method does not."""

    http_status = 405
    error_type = "invalid_request_error"
    default_code = "method_not_allowed"


class Conflict(RheostatError):
    """It does not fit what is there: an event id used before with other content, a change that was decided upon
    an older state."""

    http_status = 409
    error_type = "invalid_request_error"
    default_code = "conflict"


class RequestTooLarge(RheostatError):
    """The body is over the limit; counted while it is read."""

    http_status = 413
    error_type = "invalid_request_error"
    default_code = "request_too_large"


class UnsupportedMediaType(RheostatError):
    """The body is not JSON by its content type."""

    http_status = 415
    error_type = "invalid_request_error"
    default_code = "unsupported_media_type"


class Overloaded(RheostatError):
    """Admission refused the request before any work was done for it.

    Args:
        retry_after_s: In how many seconds there should be room; None: nobody knows.
    """

    http_status = 429
    error_type = "rate_limit_error"
    default_code = "slow_down"
    retryable = True

    def __init__(
        self, message: str, param: str | None = None, code: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, param, code)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.param, self.code, self.retry_after_s)


class Unavailable(RheostatError):
    """A stage has no ready replica, or died under the request."""

    http_status = 503
    error_type = "service_unavailable_error"
    default_code = "server_is_overloaded"
    retryable = True


class DeadlineExceeded(RheostatError):
    """The request's time ran out before the answer was whole."""

    http_status = 504
    default_code = "deadline_exceeded"


class InternalError(RheostatError):
    """Our bug. The caller sees a fixed text and the request id; the reason is in the log."""


class ConfigurationError(RheostatError, ValueError):
    """A setting, catalogue or policy file that start-up refuses; names the file, the key and the mend."""

    default_code = "configuration_error"


def as_rheostat_error(error: BaseException) -> RheostatError:
    """A foreign exception as ours: unknown ones become a fixed text, for the reason belongs in the log."""
    if isinstance(error, RheostatError):
        return error
    if isinstance(error, TimeoutError):
        return Unavailable("A stage did not answer in time; try again in a few seconds.")
    return InternalError("The service failed on this request; quote its x-request-id when you report it.")
