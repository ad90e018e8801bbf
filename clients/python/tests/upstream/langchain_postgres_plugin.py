"""A pytest plugin for langchain-postgres' own tests of its chat history: they get one of chatledger.

Only that module of the package is stood in for, so that the rest of it needn't be installed.
"""

from __future__ import annotations

import contextlib
import os
import sys
import types
from collections.abc import AsyncIterator, Iterator
from typing import Any

from chatledger.langchain import ChatledgerChatMessageHistory


class PostgresChatMessageHistory(ChatledgerChatMessageHistory):
    """Takes the arguments of the package's class. A table is a name space."""

    def __init__(self, table_name: str, session_id: str, /, **connections: Any) -> None:
        super().__init__(f"{table_name}/{session_id}", target=os.environ["CHATLEDGER_TARGET"])

    @staticmethod
    def create_tables(connection: Any, table_name: str) -> None:
        """The server's schema is there."""

    @staticmethod
    async def acreate_tables(connection: Any, table_name: str) -> None:
        """The server's schema is there."""

    drop_table, adrop_table = create_tables, acreate_tables


@contextlib.contextmanager
def connection() -> Iterator[None]:
    yield None


@contextlib.asynccontextmanager
async def aconnection() -> AsyncIterator[None]:
    yield None


def stand_in(name: str, **contents: Any) -> None:
    sys.modules[name] = module = types.ModuleType(name)
    vars(module).update(contents)


stand_in("langchain_postgres", __path__=[])
stand_in("langchain_postgres.chat_message_histories", PostgresChatMessageHistory=PostgresChatMessageHistory)
stand_in("tests.utils", asyncpg_client=aconnection, syncpg_client=connection)
