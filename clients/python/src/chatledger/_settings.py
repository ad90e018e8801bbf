"""The settings of both clients: where the server is, how to get there, and how patiently."""

from __future__ import annotations

import ipaddress
import os
import random
import re
import time
from dataclasses import dataclass, field, replace
from typing import Any

import grpc

from ._credentials import Bearer, Metadata, Token, Tokens, check_secret
from ._tls import TLS
from .errors import ChatledgerError, ForkedError

DEFAULT_PORT = 50051

DEFAULT_TARGET = f"127.0.0.1:{DEFAULT_PORT}"
"""The address that a server listens on by default."""

HTTPS_PORT = 443

_SCHEMES = ("dns:", "unix:", "unix-abstract:", "vsock:", "ipv4:", "ipv6:", "xds:", "google-c2p:")
"""The beginnings of gRPC's own names, which are passed on as they are."""

_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s/?#@:\[\]]+)(:(?P<port>[^:]*))?")

DEFAULT_TIMEOUT = 30.0
"""Seconds for a call with all its retries: longer than a sleeping serverless database takes to wake up."""

FIRST_PAUSE = 0.05
"""Seconds before the first retry: about as long as a failover of a local server takes to be noticed."""

LONGEST_PAUSE = 2.0
"""Seconds between retries at most, so that an outage's end is noticed soon."""

_ACTS_FOR = "x-chatledger-user"
"""The name of the metadata that says for which user a service calls."""

_CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    # A page ends at 3 MiB, but one message may be larger where the server's limits were raised.
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", -1),
    # gRPC's own pauses between connection attempts grow to two minutes; a restarted server is back in one second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A connection that died without a word is noticed while a call or a watch waits on it.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
]


# Forks are counted, since asking for the process' id is a system call, and a writer checks before each message.
_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


@dataclass(frozen=True, slots=True)
class Settings:
    """The arguments that a client was made with, checked and filled in."""

    target: str
    """``host:port``, or any other name that gRPC resolves."""
    timeout: float | None
    credentials: grpc.ChannelCredentials | None
    """None: without TLS."""
    api_key: str | None = field(repr=False)
    forks: int
    """How many forks led to the process that made the client."""
    tokens: Tokens | None = field(default=None, repr=False)
    """The source of the tokens that are sent instead of an API key."""
    server_name: str | None = None
    """The name that the server's certificate must have, where it isn't the target's."""
    acts_for: str | None = None
    """The user for whom every call is made."""
    takes_credentials: bool = True
    """Whether credentials may be sent: with TLS, on this machine, or where the caller said so."""

    @property
    def channel_options(self) -> list[tuple[str, Any]]:
        if self.server_name is None:
            return _CHANNEL_OPTIONS
        return [*_CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", self.server_name)]

    @property
    def metadata(self) -> Metadata | None:
        """The metadata that every call sends along, but for a token, which may have to be asked for."""
        key = [] if self.api_key is None else [("authorization", f"Bearer {self.api_key}")]
        user = [] if self.acts_for is None else [(_ACTS_FOR, self.acts_for)]
        return key + user or None

    def with_token(self, token: Token) -> Settings:
        """The same with another token, in place of all credentials but a client certificate."""
        if not self.takes_credentials:
            raise ValueError(_refusal("token", self.target))
        return replace(self, api_key=None, tokens=Tokens(token), acts_for=None)

    def bearer(self) -> Bearer:
        """What one call, or one stream, says who it is from."""
        return Bearer(self.tokens, self.metadata)

    @property
    def is_forked(self) -> bool:
        """Whether this is a forked process, where gRPC's threads and our own are gone: waiting for them would hang."""
        return _forks != self.forks

    def check_process(self) -> None:
        """Refuses in a forked process."""
        if self.is_forked:
            raise ForkedError(
                "this chatledger client was made in another process; make one after the fork, in each process"
            )


def settings(
    target: str | None,
    *,
    api_key: str | None = None,
    token: Token | None = None,
    timeout: float | None = DEFAULT_TIMEOUT,
    tls: bool | TLS | None = None,
    root_certificates: bytes | None = None,
    private_key: bytes | None = None,
    certificate_chain: bytes | None = None,
    insecure: bool = False,
) -> Settings:
    """The settings by a client's arguments, filled in from the environment; raises ValueError where they can't be."""
    target = target or os.environ.get("CHATLEDGER_TARGET") or DEFAULT_TARGET
    address, https = _address(target)
    api_key, tokens = _credentials(api_key, token)
    check_timeout(timeout)
    if https and tls is False:
        raise ValueError("tls=False contradicts the https:// of the target")
    pem = root_certificates or private_key or certificate_chain
    if not isinstance(tls, (bool, TLS, type(None))):
        raise TypeError(f"tls must be a bool or a TLS, not {type(tls).__name__}")
    if pem and tls is False:
        raise ValueError("certificates were given, but tls=False")
    if pem and isinstance(tls, TLS):
        raise ValueError("certificates were given, and a tls with its own: give one of them")
    if (private_key is None) != (certificate_chain is None):
        raise ValueError("private_key and certificate_chain belong together")
    if not isinstance(tls, TLS) and (https or tls or pem):
        tls = TLS(root_certificates, certificate_chain, private_key)
    takes_credentials = bool(tls or insecure or _is_local(address))
    if (api_key or tokens) and not takes_credentials:
        raise ValueError(_refusal("api_key" if api_key else "token", address))
    credentials, server_name = None, None
    if isinstance(tls, TLS):
        credentials, server_name = tls.channel_credentials(), tls.server_name
    return Settings(
        address, timeout, credentials, api_key, _forks, tokens, server_name, takes_credentials=takes_credentials
    )


def _refusal(named: str, address: str) -> str:
    return (
        f"refusing to send {named} to {address} in clear text: "
        "use https:// or tls=True, or say insecure=True where the network is trusted"
    )


def _credentials(api_key: str | None, token: Token | None) -> tuple[str | None, Tokens | None]:
    """The key and the tokens of the arguments, else of the environment; not both."""
    names = "api_key and token"
    if not api_key and not token:
        names = "CHATLEDGER_API_KEY and CHATLEDGER_TOKEN"
        api_key, token = os.environ.get("CHATLEDGER_API_KEY"), os.environ.get("CHATLEDGER_TOKEN")
    if api_key and token:
        raise ValueError(f"{names} are both given: a call has one of them")
    return check_secret(api_key, "api_key") if api_key else None, Tokens(token) if token else None


def _address(target: str) -> tuple[str, bool]:
    """The address that gRPC is to connect to, and whether the target says ``https://``.

    It always has a port: gRPC would take 443, with TLS or without.
    """
    if not isinstance(target, str):
        raise TypeError(f"target must be a str, not {type(target).__name__}")
    if target.startswith(_SCHEMES):
        return target, False
    scheme, found, rest = target.rpartition("://")
    host, port = _host_and_port(rest.removesuffix("/") if found else rest)
    https = scheme.lower() == "https"
    if (found and not https and scheme.lower() != "http") or not host or not _is_port(port):
        raise ValueError(f"target must be host:port, http://host:port or https://host:port, without a path: {target!r}")
    return f"{host}:{port or (HTTPS_PORT if https else DEFAULT_PORT)}", https


def _host_and_port(text: str) -> tuple[str, str | None]:
    """The host, empty where it can't be one, and the port, if there is one."""
    try:
        return f"[{ipaddress.IPv6Address(text)}]", None
    except ValueError:
        # The text isn't an address of version 6 without its brackets.
        found = _HOST_AND_PORT.fullmatch(text)
    return (found["host"], found["port"]) if found else ("", None)


def _is_port(port: str | None) -> bool:
    return port is None or (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16)


def check_timeout(timeout: float | None) -> float | None:
    """The timeout, if it can be one."""
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout must be above 0 seconds, or None for no limit: {timeout}")
    return timeout


def _is_local(target: str) -> bool:
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    host = target.rsplit("/", 1)[-1].rsplit(":", 1)[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Backoff:
    """Growing pauses with jitter, so that the clients of a restarted server don't all come back at once."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE

    def pause(self, at_least: float | None = None) -> float:
        """Seconds to wait before the next attempt."""
        pause = random.uniform(self._next / 2, self._next)
        self._next = min(self._next * 2, LONGEST_PAUSE)
        return max(pause, at_least or 0.0)

    def reset(self) -> None:
        """The next pause is the first one again: called after a success."""
        self._next = FIRST_PAUSE


class Attempts:
    """The attempts of one call within its timeout."""

    def __init__(self, timeout: float | None, *, safe: bool) -> None:
        self._end = None if timeout is None else time.monotonic() + timeout
        self._safe = safe
        self._backoff = Backoff()

    def left(self) -> float | None:
        """Seconds until the deadline, for the next attempt."""
        return None if self._end is None else max(self._end - time.monotonic(), 0.001)

    def pause_after(self, error: ChatledgerError) -> float:
        """Seconds to wait before the next attempt; raises the error where there is none."""
        # A request that was refused for want of room was not done, whatever it was.
        refused = error.code == "RESOURCE_EXHAUSTED" and error.retry_after is not None
        if not (refused or self._safe and error.code == "UNAVAILABLE"):
            raise error
        pause = self._backoff.pause(error.retry_after)
        if self._end is not None and time.monotonic() + pause >= self._end:
            raise error
        return pause


class StreamAttempts:
    """The attempts of a stream that is read on where it broke: each that brings something begins the timeout anew."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._attempts = Attempts(timeout, safe=True)
        self._moved = False

    def left(self) -> float | None:
        """Seconds until the deadline, for the next attempt."""
        return self._attempts.left()

    def moved(self) -> None:
        """Called for each frame that came."""
        self._moved = True

    def pause_after(self, error: ChatledgerError) -> float:
        """Seconds to wait before the stream is read on; raises the error where it isn't."""
        if self._moved:
            self._moved = False
            self._attempts = Attempts(self._timeout, safe=True)
            if error.code == "DEADLINE_EXCEEDED":
                # The deadline is for each frame; gRPC has only one for the call, in which the reader's time counts, too.
                return 0.0
        return self._attempts.pause_after(error)
