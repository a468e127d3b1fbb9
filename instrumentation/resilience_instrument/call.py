"""One call as the engine and the observers know it: facts, no behaviour.

A room fills it once, before the first attempt. The slots at the end belong to
observers, which may keep there a span, headers that the room must send, and how long
a first attempt took that succeeded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    AttributeValue = str | int | float | bool


@final
class Call:
    """What the app asked for, in words that hold for every library.

    Args:
        library: The library through which the call goes, such as `requests`.
        service: Whom it goes to: the label of metrics and the name in errors.
        endpoint: What is asked of it, as a template of bounded variety.
        operation: The protocol's word for it, such as `GET`.
        repeatable: Whether sending it twice does no harm: an idempotent method
            or a call that carries an idempotency key.
        replayable: Whether its body can be sent again.
        app_retries: Whether the app, or a library under it, retries already.
        unbounded: Whether the app gave it no timeout of its own.
        deadline: The monotonic time by which it must end, None for none.
        measured: Whether its duration says what such calls take; an upload's or a
            stream's does not.
        brief: Whether a trace of it says all with its attempt alone while nothing
            else happens, and nothing carries the trace on.
        attributes: Gives the span attributes of an attempt when one is recorded.
    """

    __slots__ = (
        "app_retries",
        "at_once",
        "attributes",
        "brief",
        "carrier",
        "deadline",
        "endpoint",
        "library",
        "measured",
        "operation",
        "repeatable",
        "replayable",
        "service",
        "span",
        "unbounded",
    )

    def __init__(  # noqa: PLR0913 - a record; every field is named at the call
        self,
        *,
        library: str,
        service: str,
        endpoint: str,
        operation: str,
        repeatable: bool,
        replayable: bool = True,
        app_retries: bool = False,
        unbounded: bool = False,
        deadline: float | None = None,
        measured: bool = True,
        brief: bool = False,
        attributes: Callable[[], Mapping[str, AttributeValue]] = dict,
    ) -> None:
        self.library = library
        self.service = service
        self.endpoint = endpoint
        self.operation = operation
        self.repeatable = repeatable
        self.replayable = replayable
        self.app_retries = app_retries
        self.unbounded = unbounded
        self.deadline = deadline
        self.measured = measured
        self.brief = brief
        self.attributes = attributes
        self.at_once: float | None = None
        self.span: object = None
        self.carrier: dict[str, str] = {}
