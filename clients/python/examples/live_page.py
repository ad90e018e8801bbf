"""A page that shows a session live: FastAPI passes the messages on as server-sent events.

    pip install fastapi uvicorn
    CHATLEDGER_TARGET=127.0.0.1:50051 uvicorn --timeout-graceful-shutdown 3 --app-dir examples live_page:app
    open http://127.0.0.1:8000/SESSION_ID

An open page's answer never ends by itself, so a server that is told to stop waits for it, without the timeout for ever.

Each event's id is the message's seq. A browser that reconnects sends the last one along, so it goes on where it was,
as ``watch`` itself does when the server restarts.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException
from fastapi.responses import HTMLResponse, StreamingResponse

import chatledger

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Session</title>
<style>body { font: 16px/1.5 sans-serif; max-width: 40em; margin: 2em auto } li { margin: 0.5em 0 }</style>
<h1>Session</h1>
<ol id="messages"></ol>
<script>
  const events = new EventSource(location.pathname + "/events");
  events.onmessage = (event) => {
    const message = JSON.parse(event.data);
    const item = document.createElement("li");
    item.textContent = message.role + ": " + message.content;
    document.getElementById("messages").append(item);
  };
</script>
"""


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # The client is made here, in the process and the event loop that use it, and not at the top.
    async with chatledger.AsyncClient() as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/{session_id}")
async def page(session_id: uuid.UUID) -> HTMLResponse:
    return HTMLResponse(PAGE)


@app.get("/{session_id}/events")
async def events(session_id: uuid.UUID, last_event_id: Annotated[int, Header(ge=0)] = 0) -> StreamingResponse:
    client: chatledger.AsyncClient = app.state.client
    try:
        # The session is looked up before the stream begins, while there is a status to answer with.
        await client.sessions.get(session_id)
    except chatledger.NotFoundError as error:
        raise HTTPException(404, error.message) from error
    return StreamingResponse(follow(client, session_id, last_event_id), media_type="text/event-stream")


async def follow(client: chatledger.AsyncClient, session_id: uuid.UUID, after_seq: int) -> AsyncIterator[str]:
    async with client.messages.watch(session_id, after_seq=after_seq) as watch:
        async for message in watch:
            data = json.dumps({"seq": message.seq, "role": message.role, "content": message.content})
            yield f"id: {message.seq}\ndata: {data}\n\n"
