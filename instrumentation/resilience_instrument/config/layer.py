"""Values that were written in one place, be it a table of a file or the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from resilience_instrument.config.kinds import Value


@final
class Layer:
    """Values that stand in one place.

    Args:
        label: The place in words, such as `[services.pay]`.

    `values` has each value by the path of its key, `places` the file and the line.
    """

    __slots__ = ("label", "places", "values")

    def __init__(self, label: str) -> None:
        self.label = label
        self.values: dict[str, Value] = {}
        self.places: dict[str, str] = {}
