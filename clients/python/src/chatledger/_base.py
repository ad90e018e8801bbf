"""The base of both clients: they are made of the same arguments, and copied with another timeout."""

from __future__ import annotations

import copy
import dataclasses
import uuid
from typing import TypeVar

from ._credentials import Token
from ._ids import Id
from ._settings import DEFAULT_TIMEOUT, Settings, check_timeout, settings
from ._tls import TLS

C = TypeVar("C", bound="BaseClient")


class BaseClient:
    """The arguments, the settings and the views that both clients have."""

    def __init__(
        self,
        target: str | None = None,
        *,
        api_key: str | None = None,
        token: Token | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
        tls: bool | TLS | None = None,
        root_certificates: bytes | None = None,
        private_key: bytes | None = None,
        certificate_chain: bytes | None = None,
        insecure: bool = False,
    ) -> None:
        """Prepares a client; it connects when it is first used.

        :param target: ``host:port``, or a URL with ``http://`` or ``https://``, or one of gRPC's own names, such as
            ``unix:…``. Default: the variable ``CHATLEDGER_TARGET``, else ``127.0.0.1:50051``. The port's default is
            50051, and 443 with ``https://``.
        :param api_key: sent with every call as a bearer token. Default: the variable ``CHATLEDGER_API_KEY``. It isn't sent
            in clear text beyond this machine, unless ``insecure=True`` says so.
        :param token: a JWT to send instead, or a function that gives one, which any thread may call; of an
            :class:`~chatledger.AsyncClient` it may be async. It is asked before a call when the last token is near its
            end, or was refused, by one caller at a time. A call, stream or writer that meets the end of its token goes
            on with a new one. Default: the variable ``CHATLEDGER_TOKEN``.
        :param timeout: seconds for each call, with its retries; None: no limit.
        :param tls: True: with TLS; False: without; a :class:`~chatledger.TLS`: with certificates of one's own. Default:
            with it for ``https://`` and where certificates are given.
        :param root_certificates: PEM, of whom to trust. Default: gRPC's own.
        :param private_key: PEM, for a server that asks clients for certificates.
        :param certificate_chain: PEM, belongs to ``private_key``.
        :param insecure: True: credentials may go in clear text beyond this machine.
        """
        self._open(
            settings(
                target,
                api_key=api_key,
                token=token,
                timeout=timeout,
                tls=tls,
                root_certificates=root_certificates,
                private_key=private_key,
                certificate_chain=certificate_chain,
                insecure=insecure,
            )
        )

    @classmethod
    def of_settings(cls: type[C], settings: Settings) -> C:
        """A client like another one, of either kind; for adapters."""
        client = cls.__new__(cls)
        client._open(settings)
        return client

    @property
    def settings(self) -> Settings:
        """What the client was made with; for adapters."""
        return self._settings

    @property
    def target(self) -> str:
        """The server's address."""
        return self._settings.target

    def with_timeout(self: C, timeout: float | None) -> C:
        """The same client, on the same connection, with another timeout for its calls, in seconds."""
        other = copy.copy(self)
        other._timeout = check_timeout(timeout)
        other._bind()
        return other

    def as_user(self: C, user_id: Id) -> C:
        """The same client, on the same connection, acting for a user: every call sees and changes what is that user's.

        It is for services; their scopes still count. Streams, watches, writers and adapters of this client act for the
        user, too.
        """
        try:
            user = uuid.UUID(str(user_id))
        except ValueError:
            raise ValueError(f"user_id must be a user's id, a UUID: {user_id!r}") from None
        other = copy.copy(self)
        other._settings = dataclasses.replace(self._settings, acts_for=str(user))
        other._bind()
        return other

    def with_token(self: C, token: Token) -> C:
        """The same client, on the same connection, with a token of somebody else's in place of its own credentials.

        It is for programs that pass on the tokens of those whom they serve. A token as for ``__init__``.
        """
        other = copy.copy(self)
        other._settings = self._settings.with_token(token)
        other._bind()
        return other

    def _open(self, settings: Settings) -> None:
        """Prepares the connection."""
        self._settings = settings
        self._timeout = settings.timeout
        self._connect()
        self._bind()

    def _connect(self) -> None:
        raise NotImplementedError

    def _bind(self) -> None:
        """Makes the groups of methods anew, for this client with its timeout."""
        raise NotImplementedError
