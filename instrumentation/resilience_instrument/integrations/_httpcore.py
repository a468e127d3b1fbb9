"""The bytes under a synchronous httpx: every wait ends with the call.

httpcore takes its timeout anew for each read and write, but keeps the number for
a whole response; so the waits themselves are shortened.
"""

from __future__ import annotations

import importlib
from typing import Any, Final, final

from resilience_instrument.integrations._clamp import clamp_here
from resilience_instrument.integrations._patch import Target

_PIECE: Final = 65536


@final
class Streams:
    """Wraps the streams of one core library.

    Args:
        core: The module, whose own errors are raised.
    """

    __slots__ = ("_core",)

    def __init__(self, core: Any) -> None:
        self._core = core

    def targets(self) -> list[Target]:
        """Return what is wrapped: the stream, and TLS inside a TLS proxy."""
        backend = importlib.import_module(f"{self._core.__name__}._backends.sync")
        streams = (backend.SyncStream, backend.TLSinTLSStream)
        return [
            *(Target(stream, "read", self.read) for stream in streams),
            *(Target(stream, "write", self.write) for stream in streams),
        ]

    def read(
        self,
        wrapped: Any,
        instance: Any,  # noqa: ARG002 - the shape of a wrapper
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Wrap `read`."""
        clamp = clamp_here()
        if clamp is None:
            return wrapped(*args, **kwargs)
        size, timeout = _amount_and_timeout(*args, **kwargs)
        try:
            wait = clamp.shorten(timeout)
        except TimeoutError as over:
            raise self._core.ReadTimeout(str(over)) from over
        return wrapped(size, timeout=wait)

    def write(
        self,
        wrapped: Any,
        instance: Any,  # noqa: ARG002 - the shape of a wrapper
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Wrap `write`."""
        clamp = clamp_here()
        if clamp is None:
            return wrapped(*args, **kwargs)
        data, timeout = _amount_and_timeout(*args, **kwargs)
        view = memoryview(data)
        # In pieces: the end of the call is looked at before each.
        for start in range(0, len(view), _PIECE):
            try:
                wait = clamp.shorten(timeout)
            except TimeoutError as over:
                raise self._core.WriteTimeout(str(over)) from over
            wrapped(bytes(view[start : start + _PIECE]), timeout=wait)
        return None


def _amount_and_timeout(first: Any, timeout: Any = None) -> tuple[Any, Any]:
    return first, timeout
