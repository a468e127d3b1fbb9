"""What an outcome means: worth a retry or not, and evidence for the breaker.

A room (one library's integration) reads an outcome and states a `Judgement`; the
policies act on it. No rule about what to do stands here.
"""

from __future__ import annotations

import enum
from typing import Final, Literal, final


class Verdict(enum.Enum):
    """How a call stands after an attempt."""

    SUCCESS = "success"
    """The service did what it was asked, or said clearly why it will not."""
    TRANSIENT = "transient"
    """It failed in a way that may be gone at the next try."""
    PERMANENT = "permanent"
    """It failed and would fail again."""


class Evidence(enum.Enum):
    """What an attempt says about the health of the service."""

    SUCCESS = "success"
    FAILURE = "failure"
    THROTTLED = "throttled"
    """Alive but refusing for now (429): fails a probe, is no failure in a row."""
    NEUTRAL = "neutral"
    """Says nothing: cancelled, local exhaustion, a wait the app cut short."""


class Phase(enum.Enum):
    """The part of an attempt in which a timeout struck."""

    CONNECT = "connect"
    READ = "read"
    WRITE = "write"
    POOL = "pool"
    TOTAL = "total"


@final
class Judgement:
    """A room's reading of one outcome.

    Args:
        verdict: What the outcome means for the call.
        evidence: What it says to the breaker.
        sent: Whether the request may have had an effect. False only where it is
            proven that no byte of it left this process.
        timeout: The phase in which a timeout struck, None if none did.
        retry_after: Seconds the service asked to wait, None if it did not.
        status: The protocol's status code, None where there was no answer.
        reason: A short, bounded word for the failure, for spans and logs: the
            status as text or the error's class name. Empty on success.
        code: What a database calls the failure: its SQLSTATE or its number. Empty
            where it gave none.
    """

    __slots__ = (
        "code",
        "evidence",
        "reason",
        "retry_after",
        "sent",
        "status",
        "timeout",
        "verdict",
    )

    def __init__(  # noqa: PLR0913 - a record; every field is named at the call
        self,
        verdict: Verdict,
        evidence: Evidence,
        *,
        sent: bool = True,
        timeout: Phase | None = None,
        retry_after: float | None = None,
        status: int | None = None,
        reason: str = "",
        code: str = "",
    ) -> None:
        self.verdict: Final = verdict
        self.evidence: Final = evidence
        self.sent: Final = sent
        self.timeout: Final = timeout
        self.retry_after: Final = retry_after
        self.status: Final = status
        self.reason: Final = reason
        self.code: Final = code

    @property
    def outcome(self) -> Literal["success", "timeout", "error"]:
        """The coarse outcome of the attempt: success, timeout or error."""
        if self.timeout is not None:
            return "timeout"
        return "success" if self.verdict is Verdict.SUCCESS else "error"

    def revised(
        self,
        *,
        verdict: Verdict | None = None,
        evidence: Evidence | None = None,
        reason: str | None = None,
        code: str | None = None,
    ) -> Judgement:
        """Return the same judgement but for what is given."""
        return Judgement(
            verdict or self.verdict,
            evidence or self.evidence,
            sent=self.sent,
            timeout=self.timeout,
            retry_after=self.retry_after,
            status=self.status,
            reason=self.reason if reason is None else reason,
            code=self.code if code is None else code,
        )

    def __repr__(self) -> str:
        return (
            f"Judgement({self.verdict.name}, {self.evidence.name}, "
            f"sent={self.sent}, timeout={self.timeout}, status={self.status}, "
            f"reason={self.reason!r})"
        )
