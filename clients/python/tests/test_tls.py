"""TLS and API keys, against a gRPC server that asks for both. chatledger's own doesn't yet."""

from __future__ import annotations

import asyncio
import pathlib
import subprocess
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

import chatledger
from chatledger.v1 import session_pb2

KEY = "a-secret"


class Guard(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The answer for callers who have the key."""

    def service(self, details: Any) -> Any:
        def answer(request: bytes, context: Any) -> bytes:
            if ("authorization", f"Bearer {KEY}") not in context.invocation_metadata():
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "no key")
            asked = session_pb2.GetSessionRequest.FromString(request)
            return session_pb2.GetSessionResponse(session={"id": asked.session_id}).SerializeToString()

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A key and its certificate for localhost."""
    folder: pathlib.Path = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "key.pem").read_bytes(), (folder / "cert.pem").read_bytes()


@pytest.fixture(scope="module")
def port(certificate: tuple[bytes, bytes]) -> Iterator[int]:
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Guard()])
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([certificate]))
    server.start()
    yield port
    server.stop(None)


def test_tls_and_a_key(port: int, certificate: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    _, root = certificate
    session_id = chatledger.uuid7()
    with chatledger.Client(f"https://localhost:{port}", api_key=KEY, root_certificates=root) as client:
        assert client.sessions.get(session_id).id == session_id
    with chatledger.Client(f"localhost:{port}", root_certificates=root) as client:
        with pytest.raises(chatledger.UnauthenticatedError, match="no key"):
            client.sessions.get(session_id)
    monkeypatch.setenv("CHATLEDGER_API_KEY", KEY)

    async def get() -> None:
        async with chatledger.AsyncClient(f"https://localhost:{port}", root_certificates=root) as client:
            assert (await client.sessions.get(session_id)).id == session_id

    asyncio.run(get())
    # Nobody vouches for the certificate: gRPC's own roots don't know it.
    with chatledger.Client(f"https://localhost:{port}", timeout=0.5) as client:
        with pytest.raises(chatledger.UnavailableError):
            client.sessions.get(session_id)
