"""A server that asks for credentials, over TLS: its certificates, its keys, and tokens for it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import pathlib
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from chatledger import TLS, AsyncClient, Client, ExpiredCredentialsError, uuid7
from chatledger.testing import Server, server

SCOPES = ("read", "write", "users", "admin")


def openssl(folder: pathlib.Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def authority(folder: pathlib.Path, name: str) -> None:
    """An authority: ``name.crt`` and ``name.key``."""
    openssl(
        folder,
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"),
        *("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt"),
    )


def certificate(folder: pathlib.Path, name: str, extension: str) -> None:
    """A certificate that the authority ``ca`` has given."""
    (folder / f"{name}.ext").write_text(extension)
    openssl(
        folder,
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr"),
    )
    openssl(
        folder,
        *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", "1"),
        *("-set_serial", str(secrets.randbits(64)), "-extfile", f"{name}.ext", "-out", f"{name}.crt"),
    )


@dataclass
class Secured:
    """A running server, and what opens it."""

    server: Server
    folder: pathlib.Path
    keys: dict[str, str]
    """The preshared keys, by their scopes."""
    secret: bytes
    """The secret by which tokens are signed."""

    @property
    def tls(self) -> TLS:
        return TLS(ca=self.folder / "ca.crt")

    def client(self, **arguments: Any) -> Client:
        return Client(self.server.target, **({"tls": self.tls} | arguments))

    def aclient(self, **arguments: Any) -> AsyncClient:
        return AsyncClient(self.server.target, **({"tls": self.tls} | arguments))

    def token(self, subject: str, life: float = 3600, **claims: Any) -> str:
        """A token that ends after so many seconds; each is another one."""
        claims = {"sub": subject, "exp": time.time() + life, "jti": uuid7()} | claims
        parts = [base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
        signature = hmac.digest(self.secret, ".".join(parts).encode(), hashlib.sha256)
        return ".".join([*parts, base64url(signature)])

    def user(self) -> str:
        """A new user's id."""
        with self.client(api_key=self.keys["users"]) as client:
            return client.users.create(f"{uuid7()}@example.com").id


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextlib.contextmanager
def secured_server(folder: pathlib.Path) -> Iterator[Secured]:
    """A server over TLS with preshared keys, tokens and certificates of clients."""
    authority(folder, "ca")
    authority(folder, "stranger")
    certificate(folder, "server", "subjectAltName=DNS:localhost,DNS:ledger.internal,IP:127.0.0.1")
    certificate(folder, "rag-worker", "extendedKeyUsage=clientAuth")
    (folder / "certificates.toml").write_text(
        '[[client_certificates]]\nsubject = "CN=rag-worker"\nname = "rag-worker"\nscopes = ["read"]\n'
    )
    keys = {scope: secrets.token_urlsafe(32) for scope in SCOPES}
    (folder / "keys.toml").write_text(
        "".join(f'[[api_keys]]\nname = "{n}"\nsecret = "{key}"\nscopes = ["{n}"]\n' for n, key in keys.items())
    )
    secret = secrets.token_bytes(32)
    (folder / "jwt.secret").write_bytes(secret)
    flags = {
        "--tls-cert": "server.crt",
        "--tls-key": "server.key",
        "--tls-client-ca": "ca.crt",
        "--client-certificates-file": "certificates.toml",
        "--api-keys-file": "keys.toml",
        "--jwt-secret-file": "jwt.secret",
    }
    args = [word for flag, file in flags.items() for word in (flag, str(folder / file))]
    # Tokens end when they say so.
    args += ["--tls-client-auth", "optional", "--jwt-leeway", "1ms"]
    with server(args=args) as running:
        yield Secured(running, folder, keys, secret)


@dataclass
class Issuer:
    """A function that gives tokens, the first for a moment only, and that tells how often it was asked."""

    secured: Secured
    subject: str
    lives: list[float] = field(default_factory=lambda: [2.0])
    """The lives of the first tokens, in seconds; the others live for an hour."""
    given: list[str] = field(default_factory=list)
    again: threading.Event = field(default_factory=threading.Event)
    """Set when it is asked for the second time."""

    def __call__(self) -> str:
        asked = len(self.given)
        self.given.append(self.secured.token(self.subject, self.lives[asked] if asked < len(self.lives) else 3600.0))
        if asked:
            self.again.set()
        return self.given[-1]

    async def acall(self) -> str:
        return self()

    def wait_for_the_end(self) -> None:
        """Waits until the server takes the first token no more."""
        with self.secured.client(token=self.given[0]) as client, contextlib.suppress(ExpiredCredentialsError):
            while True:
                client.access.who_am_i()
