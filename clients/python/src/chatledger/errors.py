"""The errors: one exception class for each kind, with the server's reason and metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that the server refused."""

    field: str
    """The field's path, such as ``message.citations[0].score``."""
    description: str


class ChatledgerError(Exception):
    """An error that the server, or the way to it, answered."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "UNKNOWN",
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        """The text of the error, for people."""
        self.code = code
        """The gRPC code's name, such as ``NOT_FOUND``."""
        self.reason = reason
        """The name of the error, for programs, such as ``SESSION_NOT_FOUND``; empty where the server didn't answer."""
        self.metadata: dict[str, str] = dict(metadata or {})
        """Facts about the error, such as ``last_seq``."""
        self.violations: list[FieldViolation] = list(violations)
        """All the fields that are wrong, where that is why."""
        self.retry_after = retry_after
        """The seconds after which to come back, where the server said so."""

    def __str__(self) -> str:
        return f"{self.reason or self.code}: {self.message}"


class InvalidArgumentError(ChatledgerError):
    """The request is malformed; ``violations`` names all the wrong fields."""


class NotFoundError(ChatledgerError):
    """There is no such row, or it belongs to somebody else."""


class AlreadyExistsError(ChatledgerError):
    """The email, the id or the index is taken; or a message id was used again with other content."""


class FailedPreconditionError(ChatledgerError):
    """The message id is that of a deleted message (``MESSAGE_DELETED``)."""


class SequenceConflictError(ChatledgerError):
    """``expected_last_seq`` differs from the session's."""

    @property
    def last_seq(self) -> int:
        """The session's last seq."""
        return int(self.metadata.get("last_seq", 0))


class UnauthenticatedError(ChatledgerError):
    """Who calls, or signs in, isn't who he says; the subclasses say why."""


class CredentialsRequiredError(UnauthenticatedError):
    """The server asks for an API key, a token or a certificate, and none was sent."""


class InvalidCredentialsError(UnauthenticatedError):
    """The API key, the token or the certificate is wrong; or the email and password of ``verify_password`` are."""

    @property
    def cause(self) -> str:
        """Why: ``UNKNOWN``, ``REVOKED``, ``EXPIRED``, ``NOT_YET_VALID``, ``WRONG_AUDIENCE``, ``WRONG_ISSUER``,
        ``NO_SUCH_USER``; empty of a password."""
        return self.metadata.get("cause", "")


class ExpiredCredentialsError(InvalidCredentialsError):
    """The API key or the token has ended."""


class PermissionDeniedError(ChatledgerError):
    """The caller may not do this."""


class ScopeRequiredError(PermissionDeniedError):
    """The caller's credentials lack a scope, or it is an end user, and this is for services only."""

    @property
    def scope(self) -> str:
        """The scope that it takes; empty where no end user may."""
        return self.metadata.get("scope", "")


class NotServedError(ChatledgerError):
    """This server doesn't serve this method (see its ``--scope``)."""


class OverloadedError(ChatledgerError):
    """The server has too much to do, and retries within the timeout didn't help."""


class RateLimitedError(OverloadedError):
    """The caller asks too often; ``retry_after`` says when to come back."""

    @property
    def limit(self) -> str:
        """The limit that was reached."""
        return self.metadata.get("limit", "")


class QuotaExceededError(OverloadedError):
    """The tenant stores as much as it may. Trying again doesn't help."""

    @property
    def limit(self) -> str:
        """The quota that is used up."""
        return self.metadata.get("limit", "")


class UnavailableError(ChatledgerError):
    """The server or its database is away, and retries within the timeout didn't help."""


class DeadlineExceededError(ChatledgerError):
    """The timeout has passed. A write may have happened or not."""


class InternalError(ChatledgerError):
    """The server failed; its log has the details."""


class ClosedError(RuntimeError):
    """A client, writer or watch was used after it was closed."""


class ForkedError(RuntimeError):
    """A client or writer was used in a forked process. Make one there: gRPC's threads don't survive a fork."""


def closed_error(what: str) -> ClosedError:
    """The error of a client or a writer that was closed."""
    return ClosedError(f"the chatledger {what} is closed")


_CLASSES: dict[str, type[ChatledgerError]] = {
    "INVALID_ARGUMENT": InvalidArgumentError,
    # A request above the server's limit.
    "OUT_OF_RANGE": InvalidArgumentError,
    "NOT_FOUND": NotFoundError,
    "ALREADY_EXISTS": AlreadyExistsError,
    "FAILED_PRECONDITION": FailedPreconditionError,
    "ABORTED": SequenceConflictError,
    "UNAUTHENTICATED": UnauthenticatedError,
    "PERMISSION_DENIED": PermissionDeniedError,
    "UNIMPLEMENTED": NotServedError,
    "RESOURCE_EXHAUSTED": OverloadedError,
    "UNAVAILABLE": UnavailableError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "INTERNAL": InternalError,
}

# The reasons that say more than their codes.
_BY_REASON: dict[str, type[ChatledgerError]] = {
    "CREDENTIALS_REQUIRED": CredentialsRequiredError,
    "INVALID_CREDENTIALS": InvalidCredentialsError,
    "SCOPE_REQUIRED": ScopeRequiredError,
    "RATE_LIMITED": RateLimitedError,
    "QUOTA_EXCEEDED": QuotaExceededError,
}

# The codes of what comes from the way, or from a moment: the same request may succeed a little later.
TRANSIENT = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED"})


def is_transient(error: ChatledgerError) -> bool:
    """Whether the same may succeed a little later."""
    return error.code in TRANSIENT and not isinstance(error, QuotaExceededError)


def of_code(
    code: str,
    message: str,
    *,
    reason: str = "",
    metadata: Mapping[str, str] | None = None,
    violations: Sequence[FieldViolation] = (),
    retry_after: float | None = None,
) -> ChatledgerError:
    """The exception of a gRPC code's name."""
    kind = _CLASSES.get(code, ChatledgerError)
    named = _BY_REASON.get(reason, kind)
    if issubclass(named, kind):
        kind = named
    if kind is InvalidCredentialsError and (metadata or {}).get("cause") == "EXPIRED":
        kind = ExpiredCredentialsError
    return kind(
        message, code=code, reason=reason, metadata=metadata, violations=violations, retry_after=retry_after
    )


def of_number(code: int, message: str, reason: str, metadata: Mapping[str, str]) -> ChatledgerError:
    """The exception of an entry of a stream."""
    name = code_pb2.Code.Name(code) if code in code_pb2.Code.values() else "UNKNOWN"
    return of_code(name, message, reason=reason, metadata=metadata)


def of_rpc(error: Any) -> ChatledgerError:
    """The exception of a failed call, of ``grpc`` or ``grpc.aio``."""
    code = error.code()
    details = error.details() or ""
    if code.name == "INTERNAL" and details == "Invalid metadata":
        # gRPC says this here, and not the server; it would say the same each time.
        return of_code("UNAUTHENTICATED", "the api_key or token can't be sent: gRPC finds it invalid")
    trailing = error.trailing_metadata() or ()
    status = status_pb2.Status()
    for key, value in trailing:
        if key == "grpc-status-details-bin":
            try:
                status.ParseFromString(value)
            except DecodeError:
                # The details aren't the server's own; code and text are still there.
                break
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry, retry_after = error_details_pb2.RetryInfo(), None
    for detail in status.details:
        if detail.Unpack(retry):
            retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif not detail.Unpack(info):
            detail.Unpack(bad)
    return of_code(
        code.name,
        details,
        reason=info.reason,
        metadata=info.metadata,
        violations=[FieldViolation(v.field, v.description) for v in bad.field_violations],
        retry_after=retry_after,
    )
