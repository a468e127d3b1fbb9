"""httpcore2, the bytes under httpx2, which loads it at its first call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpcore2

from resilience_instrument.integrations._httpcore import Streams

if TYPE_CHECKING:
    from resilience_instrument.integrations._patch import Target
    from resilience_instrument.integrations._room import Runtime


def targets(runtime: Runtime) -> list[Target]:  # noqa: ARG001 - every room has this
    """Return what is wrapped, for one `runtime`."""
    return Streams(httpcore2).targets()
