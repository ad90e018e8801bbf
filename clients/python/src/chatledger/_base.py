"""The base of both clients: they are made of the same arguments, and copied with another timeout."""

from __future__ import annotations

import copy
from typing import TypeVar

from ._settings import DEFAULT_TIMEOUT, Settings, check_timeout, settings

C = TypeVar("C", bound="BaseClient")


class BaseClient:
    """The arguments, the settings and the views that both clients have."""

    def __init__(
        self,
        target: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
        tls: bool | None = None,
        root_certificates: bytes | None = None,
        private_key: bytes | None = None,
        certificate_chain: bytes | None = None,
    ) -> None:
        """Prepares a client; it connects when it is first used.

        :param target: ``host:port``, or a URL with ``http://`` or ``https://``, or one of gRPC's own names, such as
            ``unix:…``. Default: the variable ``CHATLEDGER_TARGET``, else ``127.0.0.1:50051``. The port's default is
            50051, and 443 with ``https://``.
        :param api_key: sent with every call as a bearer token. Default: the variable ``CHATLEDGER_API_KEY``. It isn't sent
            in clear text beyond this machine, unless ``tls=False`` says so.
        :param timeout: seconds for each call, with its retries; None: no limit.
        :param tls: True: with TLS; False: without. Default: with it for ``https://`` and where certificates are given.
        :param root_certificates: PEM, of whom to trust. Default: gRPC's own.
        :param private_key: PEM, for a server that asks clients for certificates.
        :param certificate_chain: PEM, belongs to ``private_key``.
        """
        self._open(
            settings(
                target,
                api_key=api_key,
                timeout=timeout,
                tls=tls,
                root_certificates=root_certificates,
                private_key=private_key,
                certificate_chain=certificate_chain,
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
