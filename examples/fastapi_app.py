"""A chatbot's HTTP API over chatledger: people register, sign in for a token, and keep their conversations.

    pip install ./clients/python fastapi uvicorn pyjwt
    (umask 077; openssl rand -hex 32 >jwt.secret; chatledger key create --name app --scopes users >app.key); chatledger serve --auth required --jwt-secret-file jwt.secret &
    CHATLEDGER_API_KEY=$(cat app.key) CHATLEDGER_JWT_SECRET_FILE=jwt.secret uvicorn --app-dir examples fastapi_app:app

Then http://127.0.0.1:8000/docs has a form for each call: register, sign in, and give the token to "Authorize".

The app's own key serves for two things, to register people and to check their passwords. Whatever a person does after that,
the app asks for with the person's own token, which it passes on as it came: chatledger verifies it, knows by its subject whose
the data is, and says NOT_FOUND of everybody else's. So there is no check of ownership here that could be forgotten.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import pathlib
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field

import chatledger

TOKEN_LIFE = datetime.timedelta(minutes=30)
"""How long a token is good. It can't be taken back before, unless the user is deactivated."""

STATUSES: dict[type[chatledger.ChatledgerError], int] = {
    chatledger.InvalidArgumentError: 422,
    chatledger.UnauthenticatedError: 401,
    chatledger.PermissionDeniedError: 403,
    chatledger.NotFoundError: 404,
    chatledger.AlreadyExistsError: 409,
    chatledger.FailedPreconditionError: 409,
    chatledger.RateLimitedError: 429,
    chatledger.QuotaExceededError: 507,
    chatledger.OverloadedError: 503,
    chatledger.UnavailableError: 503,
    chatledger.DeadlineExceededError: 504,
}
"""The HTTP status of each kind of error; of any other, 500."""


class NewUser(BaseModel):
    email: str
    password: str
    name: str | None = None


class SignIn(BaseModel):
    email: str
    password: str


class NewSession(BaseModel):
    title: str | None = None


class NewMessage(BaseModel):
    role: chatledger.Role = "user"
    content: str
    selected_text: str | None = None
    message_id: uuid.UUID | None = Field(None, description="Chosen by the client, so that it can send the message again")


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for all requests; it finds the server and the app's key by CHATLEDGER_TARGET and CHATLEDGER_API_KEY."""
    # As the server reads it: a line's end at the end of the file isn't part of the secret.
    secret = pathlib.Path(os.environ["CHATLEDGER_JWT_SECRET_FILE"]).read_bytes()
    app.state.secret = secret.removesuffix(b"\n").removesuffix(b"\r")
    async with chatledger.AsyncClient() as client:
        app.state.client = client
        yield


app = FastAPI(title="Chats", lifespan=lifespan)


def ledger_of_app(request: Request) -> chatledger.AsyncClient:
    """The ledger as the app may use it."""
    client: chatledger.AsyncClient = request.app.state.client
    return client


def ledger_of_person(
    request: Request, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]
) -> chatledger.AsyncClient:
    """The ledger as the person may use it, on the app's connection."""
    if bearer is None:
        raise HTTPException(401, "sign in first", {"www-authenticate": "Bearer"})
    request.state.is_of_person = True
    try:
        return ledger_of_app(request).with_token(bearer.credentials)
    except ValueError:
        raise HTTPException(401, "this is no token", {"www-authenticate": "Bearer"}) from None


AppsLedger = Annotated[chatledger.AsyncClient, Depends(ledger_of_app)]
Ledger = Annotated[chatledger.AsyncClient, Depends(ledger_of_person)]


@app.exception_handler(chatledger.ChatledgerError)
async def answer_error(request: Request, error: chatledger.ChatledgerError) -> JSONResponse:
    """The answer to a request that the ledger refused."""
    status = next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 500)
    if status in (401, 403) and not getattr(request.state, "is_of_person", False):
        # It is the app's own key that is refused, which the person can't help.
        status = 500
    headers: dict[str, str] = {}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after)))
    if status == 500:
        return JSONResponse({"detail": "the server failed"}, status)
    fields = [{"field": each.field, "message": each.description} for each in error.violations]
    return JSONResponse({"detail": error.message, "reason": error.reason, "fields": fields}, status, headers)


@app.post("/users", status_code=201)
async def register(new: NewUser, ledger: AppsLedger) -> chatledger.User:
    return await ledger.users.create(new.email, password=new.password, name=new.name)


@app.post("/token")
async def sign_in(given: SignIn, request: Request, ledger: AppsLedger) -> dict[str, Any]:
    try:
        user = await ledger.users.verify_password(given.email, given.password)
    except chatledger.InvalidCredentialsError as error:
        if error.cause:
            # The app's key, and not the password.
            raise
        raise HTTPException(401, error.message) from None
    now = datetime.datetime.now(datetime.timezone.utc)
    claims = {"sub": user.id, "iat": now, "exp": now + TOKEN_LIFE}
    token = jwt.encode(claims, request.app.state.secret, algorithm="HS256")
    return {"access_token": token, "token_type": "bearer", "expires_in": int(TOKEN_LIFE.total_seconds())}


@app.post("/chat/sessions", status_code=201)
async def create_session(new: NewSession, ledger: Ledger) -> chatledger.Session:
    return await ledger.sessions.create(title=new.title)


@app.get("/chat/sessions")
async def list_sessions(ledger: Ledger, limit: Annotated[int, Field(ge=1, le=500)] = 50) -> list[chatledger.Session]:
    """The person's sessions, last active first."""
    person = await ledger.access.who_am_i()
    return [session async for session in ledger.sessions.list(user_id=person.user_id, limit=limit)]


@app.delete("/chat/sessions/{session_id}", status_code=204)
async def delete_session(session_id: uuid.UUID, ledger: Ledger) -> None:
    await ledger.sessions.delete(session_id)


@app.post("/chat/sessions/{session_id}/messages", status_code=201)
async def add_message(session_id: uuid.UUID, new: NewMessage, ledger: Ledger) -> chatledger.Receipt:
    return await ledger.messages.append(
        session_id, new.role, new.content, selected_text=new.selected_text, message_id=new.message_id
    )


@app.get("/chat/sessions/{session_id}/messages")
async def list_messages(
    session_id: uuid.UUID,
    ledger: Ledger,
    after_seq: Annotated[int, Field(ge=0)] = 0,
    limit: Annotated[int, Field(ge=1, le=500)] = 50,
) -> list[dict[str, Any]]:
    """Messages in order; the seq of the last one is where the next page begins."""
    found = ledger.messages.list(session_id, after_seq=after_seq, limit=limit)
    return [
        {
            "id": message.id,
            "seq": message.seq,
            "role": message.role,
            "content": message.content,
            "selected_text": message.selected_text,
            "citations": message.citations,
            "create_time": message.create_time,
        }
        async for message in found
    ]
