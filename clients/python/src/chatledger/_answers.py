"""Answers of grpc.aio, which tells the end of a call by its channel as it tells the cancellation of our own task."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc.aio

from . import errors

# The answer of a read at the end of a stream; grpc has no types of its own.
EOF: Any = vars(grpc.aio)["EOF"]

T = TypeVar("T")

if sys.version_info >= (3, 11):

    async def answer_of(answer: Awaitable[T]) -> T:
        """The answer of a call; raises ClosedError where the call was cancelled, and not the task that waits for it."""
        task = asyncio.current_task()
        requests = task.cancelling() if task is not None else 0
        try:
            return await answer
        except asyncio.CancelledError:
            # Who cancels a task is counted; the end of a channel isn't.
            if task is None or task.cancelling() > requests:
                raise
            raise errors.closed_error("client") from None

else:

    async def answer_of(answer: Awaitable[T]) -> T:
        """The answer of a call; raises ClosedError where the call was cancelled, and not the task that waits for it."""
        waiting = asyncio.ensure_future(answer)
        try:
            # Only our own cancellation is raised here.
            await asyncio.wait([waiting])
        finally:
            waiting.cancel()
        if waiting.cancelled():
            raise errors.closed_error("client")
        return waiting.result()
