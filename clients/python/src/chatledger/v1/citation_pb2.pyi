from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Citation(_message.Message):
    __slots__ = ("document_id", "chunk_id", "score", "citation_index", "session_id", "message_id", "create_time")
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CITATION_INDEX_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    document_id: str
    chunk_id: str
    score: float
    citation_index: int
    session_id: str
    message_id: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, document_id: _Optional[str] = ..., chunk_id: _Optional[str] = ..., score: _Optional[float] = ..., citation_index: _Optional[int] = ..., session_id: _Optional[str] = ..., message_id: _Optional[str] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class MessageKey(_message.Message):
    __slots__ = ("session_id", "message_id")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    message_id: str
    def __init__(self, session_id: _Optional[str] = ..., message_id: _Optional[str] = ...) -> None: ...

class AddCitationsRequest(_message.Message):
    __slots__ = ("session_id", "message_id", "citations")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    CITATIONS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    message_id: str
    citations: _containers.RepeatedCompositeFieldContainer[Citation]
    def __init__(self, session_id: _Optional[str] = ..., message_id: _Optional[str] = ..., citations: _Optional[_Iterable[_Union[Citation, _Mapping]]] = ...) -> None: ...

class AddCitationsResponse(_message.Message):
    __slots__ = ("citations",)
    CITATIONS_FIELD_NUMBER: _ClassVar[int]
    citations: _containers.RepeatedCompositeFieldContainer[Citation]
    def __init__(self, citations: _Optional[_Iterable[_Union[Citation, _Mapping]]] = ...) -> None: ...

class ListCitationsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "message", "document_id")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_ID_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    message: MessageKey
    document_id: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., message: _Optional[_Union[MessageKey, _Mapping]] = ..., document_id: _Optional[str] = ...) -> None: ...

class ListCitationsResponse(_message.Message):
    __slots__ = ("citations", "next_page_token")
    CITATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    citations: _containers.RepeatedCompositeFieldContainer[Citation]
    next_page_token: str
    def __init__(self, citations: _Optional[_Iterable[_Union[Citation, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteCitationRequest(_message.Message):
    __slots__ = ("session_id", "message_id", "citation_index")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    CITATION_INDEX_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    message_id: str
    citation_index: int
    def __init__(self, session_id: _Optional[str] = ..., message_id: _Optional[str] = ..., citation_index: _Optional[int] = ...) -> None: ...

class DeleteCitationResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
