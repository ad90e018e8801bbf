"""TLS: whom to trust, and how to be known."""

from __future__ import annotations

import os
import pathlib
from dataclasses import dataclass, field

import grpc

Pem = str | os.PathLike[str] | bytes
"""A file's path, or its contents in PEM, which are bytes."""

_BEGIN = "-----BEGIN"
"""The mark that PEM is known by."""


@dataclass(frozen=True, slots=True)
class TLS:
    """How a client knows the server, and how the server knows it. Files are read when the client is made."""

    ca: Pem | None = None
    """The authorities to trust; None: gRPC's own list of public ones."""
    cert: Pem | None = field(default=None, repr=False)
    """The client's certificate and its intermediates, for a server that asks for one; belongs to ``key``."""
    key: Pem | None = field(default=None, repr=False)
    """The key of ``cert``, not encrypted."""
    server_name: str | None = None
    """The name that the server's certificate must have; None: the target's."""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key of TLS belong together")

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """The credentials of a channel, with what the files have now."""
        return grpc.ssl_channel_credentials(
            _read(self.ca, "ca"), _read(self.key, "key"), _read(self.cert, "cert")
        )


def _read(pem: Pem | None, name: str) -> bytes | None:
    if pem is None:
        return None
    if isinstance(pem, str) and _BEGIN in pem:
        # As a path it would be shown in an error, and it may be a key.
        raise TypeError(f"{name} of TLS must be a path, or PEM as bytes, not as str")
    if not isinstance(pem, (str, os.PathLike, bytes)):
        raise TypeError(f"{name} of TLS must be a path or bytes, not {type(pem).__name__}")
    if isinstance(pem, bytes):
        if _BEGIN.encode() not in pem:
            raise ValueError(f"{name} of TLS is not PEM")
        return pem
    found = pathlib.Path(pem).read_bytes()
    if _BEGIN.encode() not in found:
        raise ValueError(f"{name} of TLS is not PEM: {pem}")
    return found
