from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListTopDocumentsRequest(_message.Message):
    __slots__ = ("since", "limit")
    SINCE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    since: _timestamp_pb2.Timestamp
    limit: int
    def __init__(self, since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., limit: _Optional[int] = ...) -> None: ...

class TopDocument(_message.Message):
    __slots__ = ("document_id", "title", "citation_count", "mean_score")
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    CITATION_COUNT_FIELD_NUMBER: _ClassVar[int]
    MEAN_SCORE_FIELD_NUMBER: _ClassVar[int]
    document_id: str
    title: str
    citation_count: int
    mean_score: float
    def __init__(self, document_id: _Optional[str] = ..., title: _Optional[str] = ..., citation_count: _Optional[int] = ..., mean_score: _Optional[float] = ...) -> None: ...

class ListTopDocumentsResponse(_message.Message):
    __slots__ = ("documents",)
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    documents: _containers.RepeatedCompositeFieldContainer[TopDocument]
    def __init__(self, documents: _Optional[_Iterable[_Union[TopDocument, _Mapping]]] = ...) -> None: ...

class ListUserActivityRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class UserActivity(_message.Message):
    __slots__ = ("user_id", "email", "session_count", "message_count", "last_active_time")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    SESSION_COUNT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    LAST_ACTIVE_TIME_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    email: str
    session_count: int
    message_count: int
    last_active_time: _timestamp_pb2.Timestamp
    def __init__(self, user_id: _Optional[str] = ..., email: _Optional[str] = ..., session_count: _Optional[int] = ..., message_count: _Optional[int] = ..., last_active_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListUserActivityResponse(_message.Message):
    __slots__ = ("users", "next_page_token")
    USERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    users: _containers.RepeatedCompositeFieldContainer[UserActivity]
    next_page_token: str
    def __init__(self, users: _Optional[_Iterable[_Union[UserActivity, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListDailyVolumeRequest(_message.Message):
    __slots__ = ("since", "time_zone")
    SINCE_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    since: _timestamp_pb2.Timestamp
    time_zone: str
    def __init__(self, since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., time_zone: _Optional[str] = ...) -> None: ...

class DailyVolume(_message.Message):
    __slots__ = ("date", "message_count", "session_count")
    DATE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    SESSION_COUNT_FIELD_NUMBER: _ClassVar[int]
    date: str
    message_count: int
    session_count: int
    def __init__(self, date: _Optional[str] = ..., message_count: _Optional[int] = ..., session_count: _Optional[int] = ...) -> None: ...

class ListDailyVolumeResponse(_message.Message):
    __slots__ = ("days",)
    DAYS_FIELD_NUMBER: _ClassVar[int]
    days: _containers.RepeatedCompositeFieldContainer[DailyVolume]
    def __init__(self, days: _Optional[_Iterable[_Union[DailyVolume, _Mapping]]] = ...) -> None: ...

class GetSessionLengthDistributionRequest(_message.Message):
    __slots__ = ("since",)
    SINCE_FIELD_NUMBER: _ClassVar[int]
    since: _timestamp_pb2.Timestamp
    def __init__(self, since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SessionLengthBucket(_message.Message):
    __slots__ = ("label", "session_count")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SESSION_COUNT_FIELD_NUMBER: _ClassVar[int]
    label: str
    session_count: int
    def __init__(self, label: _Optional[str] = ..., session_count: _Optional[int] = ...) -> None: ...

class GetSessionLengthDistributionResponse(_message.Message):
    __slots__ = ("buckets",)
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    buckets: _containers.RepeatedCompositeFieldContainer[SessionLengthBucket]
    def __init__(self, buckets: _Optional[_Iterable[_Union[SessionLengthBucket, _Mapping]]] = ...) -> None: ...
