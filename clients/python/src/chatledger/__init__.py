"""Client of chatledger, a ledger of chats.

>>> import chatledger
>>> client = chatledger.Client("127.0.0.1:50051")
>>> session = client.sessions.create(title="ROS 2")
>>> client.messages.append(session.id, "user", "What does this mean?", selected_text="ROS 2 uses DDS")
"""

from ._ids import NAMESPACE, Id, session_id_of, uuid7
from ._rpc import AsyncPager, Page, Pager
from ._tls import TLS
from .aio import AsyncClient
from .aio_writer import AsyncWriter
from .client import Client
from .errors import (
    AlreadyExistsError,
    ChatledgerError,
    ClosedError,
    CredentialsRequiredError,
    DeadlineExceededError,
    ExpiredCredentialsError,
    FailedPreconditionError,
    FieldViolation,
    ForkedError,
    InternalError,
    InvalidArgumentError,
    InvalidCredentialsError,
    NotFoundError,
    NotServedError,
    OverloadedError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitedError,
    ScopeRequiredError,
    SequenceConflictError,
    UnauthenticatedError,
    UnavailableError,
)
from .types import (
    UNSET,
    ApiKey,
    Caller,
    CallerKind,
    Citation,
    DailyVolume,
    Document,
    JsonObject,
    Message,
    NewApiKey,
    NewMessage,
    NewProfile,
    Profile,
    Receipt,
    Role,
    Scope,
    SearchHit,
    Session,
    SessionLengthBucket,
    TopDocument,
    User,
    UserActivity,
)
from .watch import AsyncWatch, Watch
from .writer import AppendFuture, Writer

__version__ = "0.1.0"

__all__ = [
    "NAMESPACE",
    "TLS",
    "UNSET",
    "AlreadyExistsError",
    "ApiKey",
    "AppendFuture",
    "AsyncClient",
    "AsyncPager",
    "AsyncWatch",
    "AsyncWriter",
    "Caller",
    "CallerKind",
    "ChatledgerError",
    "Citation",
    "Client",
    "ClosedError",
    "CredentialsRequiredError",
    "DailyVolume",
    "DeadlineExceededError",
    "Document",
    "ExpiredCredentialsError",
    "FailedPreconditionError",
    "FieldViolation",
    "ForkedError",
    "Id",
    "InternalError",
    "InvalidArgumentError",
    "InvalidCredentialsError",
    "JsonObject",
    "Message",
    "NewApiKey",
    "NewMessage",
    "NewProfile",
    "NotFoundError",
    "NotServedError",
    "OverloadedError",
    "Page",
    "Pager",
    "PermissionDeniedError",
    "Profile",
    "QuotaExceededError",
    "RateLimitedError",
    "Receipt",
    "Role",
    "Scope",
    "ScopeRequiredError",
    "SearchHit",
    "SequenceConflictError",
    "Session",
    "SessionLengthBucket",
    "TopDocument",
    "UnauthenticatedError",
    "UnavailableError",
    "User",
    "UserActivity",
    "Watch",
    "Writer",
    "session_id_of",
    "uuid7",
]
