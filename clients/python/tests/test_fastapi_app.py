"""The repository's examples/fastapi_app.py, over a server that is started as its head says."""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import jwt
import pytest

from chatledger.testing import Server, find_binary

APP = pathlib.Path(__file__).parents[3] / "examples" / "fastapi_app.py"


@pytest.fixture(scope="module")
def started() -> Iterator[dict[str, str]]:
    """The environment of the app's command, when those before it were run."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="chatledger-app-"))
    # As root, PostgreSQL runs as another user, who has to get in.
    folder.chmod(0o755)
    install, serve, app = re.findall(r"^    (\S.*)$", APP.read_text().split('"""')[1], re.M)
    assert install.startswith("pip install ./clients/python fastapi ")
    assert app.endswith(" uvicorn --app-dir examples fastapi_app:app")
    files = re.fullmatch(r"\((.*)\); chatledger (serve .*) &", serve)
    assert files is not None
    env = os.environ | {"CHATLEDGER_DATA_DIR": str(folder / "data")}
    make = files[1].replace("chatledger ", f"{shlex.quote(find_binary())} ")
    subprocess.run(["bash", "-euc", make], cwd=folder, env=env, check=True, capture_output=True)
    start = [shutil.which("bash") or "bash", "-c", 'cd "$0" && exec "$@"', str(folder)]
    server = Server([*start, find_binary(), *shlex.split(files[2])], env, folder / "server.log")
    given = dict(re.findall(r"(CHATLEDGER_\w+)=(\S+)", app.replace("$(cat app.key)", "app.key")))
    try:
        server.start()
        yield {
            "CHATLEDGER_TARGET": server.target,
            "CHATLEDGER_API_KEY": (folder / given["CHATLEDGER_API_KEY"]).read_text().strip(),
            "CHATLEDGER_JWT_SECRET_FILE": str(folder / given["CHATLEDGER_JWT_SECRET_FILE"]),
        }
    finally:
        server.stop()
        shutil.rmtree(folder)


@contextlib.asynccontextmanager
async def running_app() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app, which runs in this process."""
    spec = importlib.util.spec_from_file_location("fastapi_app", APP)
    assert spec is not None and spec.loader is not None
    # Its types are looked up by the module's name.
    module = sys.modules["fastapi_app"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    transport = httpx.ASGITransport(module.app)
    async with module.lifespan(module.app), httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        yield http


@pytest.fixture
async def http(started: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    async with running_app() as client:
        yield client


async def signed_in(http: httpx.AsyncClient) -> dict[str, str]:
    """The headers of a new person."""
    person = {"email": f"{uuid.uuid4()}@example.com", "password": "lovelace"}
    assert (await http.post("/users", json=person)).status_code == 201
    answer = (await http.post("/token", json=person)).json()
    assert answer["token_type"] == "bearer" and answer["expires_in"] > 0
    return {"authorization": f"Bearer {answer['access_token']}"}


async def test_a_conversation(http: httpx.AsyncClient) -> None:
    me, other = await signed_in(http), await signed_in(http)
    session = (await http.post("/chat/sessions", json={"title": "ROS 2"}, headers=me)).json()
    messages = f"/chat/sessions/{session['id']}/messages"
    question = {"content": "What does this mean?", "selected_text": "DDS", "message_id": str(uuid.uuid4())}
    for deduplicated in (False, True):
        added = await http.post(messages, json=question, headers=me)
        assert (added.status_code, added.json()["seq"]) == (201, 1)
        assert added.json()["deduplicated"] is deduplicated
    await http.post(messages, json={"role": "assistant", "content": "Middleware."}, headers=me)
    listed = (await http.get(messages, headers=me)).json()
    assert [(m["seq"], m["role"], m["content"]) for m in listed] == [
        (1, "user", "What does this mean?"),
        (2, "assistant", "Middleware."),
    ]
    assert [m["seq"] for m in (await http.get(f"{messages}?after_seq=1", headers=me)).json()] == [2]
    assert [s["id"] for s in (await http.get("/chat/sessions", headers=me)).json()] == [session["id"]]

    # For somebody else there is nothing.
    assert (await http.get("/chat/sessions", headers=other)).json() == []
    absent = f"/chat/sessions/{uuid.uuid4()}"
    for foreign, missing in ((messages, f"{absent}/messages"), (f"/chat/sessions/{session['id']}", absent)):
        for method, body in (("GET", None), ("POST", question)) if foreign == messages else (("DELETE", None),):
            one, none = [await http.request(method, url, json=body, headers=other) for url in (foreign, missing)]
            assert (one.status_code, one.json()) == (404, none.json()), (method, foreign)
    assert len((await http.get(messages, headers=me)).json()) == 2

    assert (await http.delete(f"/chat/sessions/{session['id']}", headers=me)).status_code == 204
    assert (await http.get(messages, headers=me)).status_code == 404


async def test_errors(http: httpx.AsyncClient, started: dict[str, str]) -> None:
    person = {"email": f"{uuid.uuid4()}@example.com", "password": "lovelace"}
    await http.post("/users", json=person)
    again = await http.post("/users", json=person)
    assert (again.status_code, again.json()["reason"]) == (409, "EMAIL_TAKEN")
    wrong = await http.post("/users", json={"email": "no address", "password": "x"})
    assert wrong.status_code == 422 and [each["field"] for each in wrong.json()["fields"]] == ["email"]
    assert (await http.post("/token", json=person | {"password": "wrong"})).status_code == 401
    secret = pathlib.Path(started["CHATLEDGER_JWT_SECRET_FILE"]).read_bytes()
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    claims = {"sub": str(uuid.uuid4()), "exp": past}
    for token, reason in (
        (jwt.encode(claims, secret), "INVALID_CREDENTIALS"),
        (jwt.encode(claims | {"exp": datetime.datetime(2100, 1, 1)}, b"x" * 32), "INVALID_CREDENTIALS"),
        ("\u00e9t\u00e9", None),
        (None, None),
    ):
        headers: dict[str, Any] = {} if token is None else {"authorization": f"Bearer {token}".encode("latin-1")}
        refused = await http.post("/chat/sessions", json={}, headers=headers)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer"), token
        assert refused.json().get("reason") == reason
    mine = await signed_in(http)
    assert (await http.get("/chat/sessions/x/messages", headers=mine)).status_code == 422


async def test_a_key_that_is_refused_is_not_the_persons_fault(
    started: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (started | {"CHATLEDGER_API_KEY": "x" * 40}).items():
        monkeypatch.setenv(name, value)
    person = {"email": "ada@example.com", "password": "lovelace"}
    async with running_app() as http:
        for path in ("/users", "/token"):
            answer = await http.post(path, json=person)
            assert (answer.status_code, answer.json()) == (500, {"detail": "the server failed"})
