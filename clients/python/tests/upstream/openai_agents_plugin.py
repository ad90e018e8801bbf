"""A pytest plugin for the SDK's own tests: where they make a ``SQLiteSession``, they get one of chatledger."""

from __future__ import annotations

import os
import uuid
from typing import Any

import agents
import agents.memory

from chatledger.openai_agents import ChatledgerSession


class SQLiteSession(ChatledgerSession):
    """Takes the arguments of the SDK's class. Each file is a name space, and each one in memory its own."""

    def __init__(
        self, session_id: str, db_path: Any = ":memory:", *tables: str, session_settings: Any = None, **other: Any
    ) -> None:
        space = uuid.uuid4() if str(db_path) == ":memory:" else db_path
        super().__init__(
            f"{space}/{session_id}", target=os.environ["CHATLEDGER_TARGET"], session_settings=session_settings
        )
        self.session_id = session_id

    def close(self) -> None:
        """The SDK's class has it; the connections here end with their event loops."""


for module in (agents, agents.memory):
    vars(module)["SQLiteSession"] = SQLiteSession
