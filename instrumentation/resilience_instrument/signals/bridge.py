"""Show our metrics in the registry that the app serves itself, if it wishes so.

Off by default: that registry is the app's own. With `RESILIENCE_METRICS_BRIDGE=1`
it gets one collector, which yields to every name that the app has already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Render = Callable[[str], tuple[bytes, str]]


@final
class Bridge:
    """A collector of `prometheus_client`.

    Args:
        render: Takes an `Accept` header; returns the metrics and their type.
        registry: Where it is registered.
    """

    __slots__ = ("_registry", "_render")

    def __init__(self, render: Render, registry: Any) -> None:
        self._render = render
        self._registry = registry

    def describe(self) -> list[Any]:
        """Claim no name: one that the app takes later is the app's."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yield every family whose name the app does not have itself."""
        from prometheus_client import parser  # noqa: PLC0415 - the app has it loaded

        taken = self._registry._names_to_collectors  # noqa: SLF001 - it has no question for that
        text = self._render("text/plain")[0].decode()
        for family in parser.text_string_to_metric_families(text):
            names = {family.name, *(sample.name for sample in family.samples)}
            if names.isdisjoint(taken):
                yield family


def connect(render: Render) -> None:
    """Put our metrics into the app's registry."""
    from prometheus_client import REGISTRY  # noqa: PLC0415 - the app asked for it

    REGISTRY.register(Bridge(render, REGISTRY))
