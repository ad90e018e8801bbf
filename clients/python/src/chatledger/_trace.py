"""The trace that a call belongs to, passed along as W3C's Trace Context has it, where the program uses OpenTelemetry."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_Metadata = Sequence[tuple[str, str]]


def traced(metadata: _Metadata | None) -> _Metadata | None:
    """The metadata of a call, with the span that is under way here; baggage, which may be private, isn't sent."""
    # A program that has a span has imported this: others neither need it, nor wait for it here.
    if "opentelemetry.trace" not in sys.modules:
        return metadata
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if not get_current_span().get_span_context().is_valid:
        return metadata
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return [*(metadata or ()), *carrier.items()]
