"""Client of chatledger, a ledger of chats.

>>> import chatledger
>>> client = chatledger.Client("127.0.0.1:50051")
>>> session = client.sessions.create(title="ROS 2")
>>> client.messages.append(session.id, "user", "What does this mean?", selected_text="ROS 2 uses DDS")
"""

from ._ids import NAMESPACE, Id, session_id_of, uuid7
from ._rpc import AsyncPager, Page, Pager
from .aio import AsyncClient
from .aio_writer import AsyncWriter
from .client import Client
from .errors import (
    AlreadyExistsError,
    ChatledgerError,
    ClosedError,
    DeadlineExceededError,
    FailedPreconditionError,
    FieldViolation,
    ForkedError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    NotServedError,
    OverloadedError,
    PermissionDeniedError,
    SequenceConflictError,
    UnauthenticatedError,
    UnavailableError,
)
from .types import (
    UNSET,
    Citation,
    DailyVolume,
    Document,
    JsonObject,
    Message,
    NewMessage,
    NewProfile,
    Profile,
    Receipt,
    Role,
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
    "UNSET",
    "AlreadyExistsError",
    "AppendFuture",
    "AsyncClient",
    "AsyncPager",
    "AsyncWatch",
    "AsyncWriter",
    "ChatledgerError",
    "Citation",
    "Client",
    "ClosedError",
    "DailyVolume",
    "DeadlineExceededError",
    "Document",
    "FailedPreconditionError",
    "FieldViolation",
    "ForkedError",
    "Id",
    "InternalError",
    "InvalidArgumentError",
    "JsonObject",
    "Message",
    "NewMessage",
    "NewProfile",
    "NotFoundError",
    "NotServedError",
    "OverloadedError",
    "Page",
    "Pager",
    "PermissionDeniedError",
    "Profile",
    "Receipt",
    "Role",
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
