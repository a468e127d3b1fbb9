"""What a breaker answers: the right to make an attempt, or why there is none."""

from __future__ import annotations

from typing import Final, NamedTuple, final

GHOST: Final = -1
"""The generation of permits whose results nobody wants."""


@final
class Permit:
    """The right to make one attempt. It is used once: recorded or released."""

    __slots__ = ("counted", "done", "generation", "issued", "probe")

    def __init__(self, generation: int, issued: float, *, probe: bool) -> None:
        self.generation = generation
        self.issued = issued
        self.probe = probe
        self.done = False
        self.counted = False


class Rejection(NamedTuple):
    """No attempt may be made now.

    Attributes:
        retry_after: Seconds until the next probe may be let through, 0.0 where a
            probe is under way and its answer decides.
        failures: Failures in a row that opened the circuit, 0 if something else did.
        last_error: A word for the last failure.
        cause: Why the circuit opened, in words; empty if it was ordered to.
    """

    retry_after: float
    failures: int
    last_error: str
    cause: str
