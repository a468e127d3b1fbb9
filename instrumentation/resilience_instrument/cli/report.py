"""`resilience report`: what happened to each service, and in observe mode what would.

It reads the metrics port of a running app, as Prometheus does.
"""

from __future__ import annotations

import math
import os
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from resilience_instrument.cli.terminal import paint, print_json
from resilience_instrument.config.load import from_environment
from resilience_instrument.errors import ConfigError
from resilience_instrument.signals import catalog

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from resilience_instrument.cli.admin import Commands

_PATIENCE: Final = 5.0
_BUCKET: Final = f"{catalog.API_REQUEST_DURATION.name}_bucket"
_SUM: Final = f"{catalog.API_REQUEST_DURATION.name}_sum"


def add_to(commands: Commands) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "report", help="say what a running app's calls came to, or would have come to"
    )
    parser.add_argument(
        "url",
        nargs="?",
        help="where the metrics are; without it, the ports of the settings are tried",
    )
    parser.add_argument("--json", action="store_true", help="print for machines")
    parser.set_defaults(run=run)


@dataclass(slots=True)
class Service:
    """What is known of one service, added up over its endpoints."""

    name: str
    calls: dict[str, float] = field(default_factory=dict)
    buckets: dict[float, float] = field(default_factory=dict)
    seconds: float = 0.0
    retried: float = 0.0
    recovered: float = 0.0
    rejected: dict[str, float] = field(default_factory=dict)
    fallbacks: float = 0.0
    unbounded: float = 0.0
    would_act: dict[str, float] = field(default_factory=dict)
    would_save: dict[str, float] = field(default_factory=dict)
    would_lose: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """All calls."""
        return sum(self.calls.values())

    @property
    def failed(self) -> float:
        """Calls that did not succeed."""
        return self.total - self.calls.get("success", 0.0)

    def quantile(self, share: float) -> float | None:
        """Return the seconds within which `share` of the calls ended, None if none."""
        wanted = share * self.buckets.get(math.inf, 0.0)
        before, below = 0.0, 0.0
        for bound in sorted(self.buckets):
            count = self.buckets[bound]
            if count >= wanted > 0:
                if bound == math.inf:
                    return before
                inside = (wanted - below) / (count - below)
                return before + (bound - before) * inside
            before, below = bound, count
        return None

    def as_data(self) -> dict[str, object]:
        """Return everything, for a machine."""
        return {
            "service": self.name,
            "calls": self.calls,
            "mean": self.seconds / self.total if self.total else None,
            "p50": self.quantile(0.5),
            "p99": self.quantile(0.99),
            "retried": self.retried,
            "recovered": self.recovered,
            "rejected": self.rejected,
            "fallbacks": self.fallbacks,
            "unbounded": self.unbounded,
            "would_act": self.would_act,
            "would_save_seconds": self.would_save,
            "would_lose": self.would_lose,
        }


def run(options: argparse.Namespace) -> int:
    """Print what the metrics say; return 1 if there are none."""
    try:
        urls = [options.url] if options.url else _urls()
        url, text = _scraped(urls)
    except (ConfigError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        sys.stderr.write(f"resilience report: no metrics: {reason}\n")
        return 1
    services = read(text)
    if options.json:
        print_json({"url": url, "services": [s.as_data() for s in services]})
        return 0
    print(f"from {url}")
    for service in services:
        print(f"\n{paint(service.name, 'strong')}")
        for line in _lines(service):
            print(f"  {line}")
    if not services:
        print("no calls yet")
    return 0


def _urls() -> list[str]:
    settings = from_environment(os.environ)
    host = settings.metrics_host
    host = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 - it is where the app listens
    return [f"http://{host}:{port}/metrics" for port in settings.metrics_ports]


def _scraped(urls: Iterable[str]) -> tuple[str, str]:
    """Return the first of the URLs that answers, and what it says.

    Raises:
        OSError: None does; the last error.
        ValueError: One is no URL, or there is none.
    """
    # What the environment says about proxies is not for a port of one's own.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    last: OSError | None = None
    for url in urls:
        try:
            with opener.open(url, timeout=_PATIENCE) as answer:
                return url, answer.read().decode()
        except OSError as error:
            last = error
    if last is None:
        raise ValueError("the settings say that none are served")
    raise last


def read(text: str) -> list[Service]:
    """Return what an exposition says about each service, by name."""
    from prometheus_client.parser import (  # noqa: PLC0415 - no other command needs it
        text_string_to_metric_families,
    )

    services: dict[str, Service] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.labels.get("service")
            if name is not None:
                service = services.setdefault(name, Service(name))
                _add(service, sample.name, sample.labels, sample.value)
    return [services[name] for name in sorted(services)]


_BY_LABEL: Final = {
    catalog.API_REQUEST.name: ("calls", "outcome"),
    catalog.REJECTED.name: ("rejected", "policy"),
    catalog.WOULD_ACT.name: ("would_act", "policy"),
    catalog.WOULD_SAVE.name: ("would_save", "policy"),
    catalog.WOULD_LOSE.name: ("would_lose", "policy"),
}
_PLAIN: Final = {
    _SUM: "seconds",
    catalog.API_RETRY_SUCCESS.name: "recovered",
    catalog.UNBOUNDED.name: "unbounded",
}


def _add(service: Service, name: str, labels: dict[str, str], value: float) -> None:
    """Add one sample to what it counts."""
    if name in _BY_LABEL:
        attribute, label = _BY_LABEL[name]
        _increase(getattr(service, attribute), labels[label], value)
    elif name in _PLAIN:
        attribute = _PLAIN[name]
        setattr(service, attribute, getattr(service, attribute) + value)
    elif name == _BUCKET:
        _increase(service.buckets, float(labels["le"]), value)
    elif name == catalog.API_RETRY.name and labels["attempt"] == "2":
        service.retried += value
    elif name == catalog.FALLBACK.name and labels["outcome"] == "success":
        service.fallbacks += value


def _increase(counts: dict[Any, float], key: object, value: float) -> None:
    counts[key] = counts.get(key, 0.0) + value


def _lines(service: Service) -> Iterator[str]:
    """Yield what there is to say about a service, in words."""
    total, failed = service.total, service.failed
    share = f" ({100 * failed / total:.1f} %)" if failed else ""
    yield f"{_calls(total)}, {failed:g} failed{share}{_times(service)}"
    if service.unbounded:
        yield f"{service.unbounded:g} without a timeout of the app's own"
    if service.retried:
        yield f"{_calls(service.retried)} retried, {service.recovered:g} successfully"
    for policy, count in service.rejected.items():
        if count:
            yield f"{_calls(count)} refused by the {policy}"
    if service.fallbacks:
        yield f"{_calls(service.fallbacks)} answered by a fallback"
    yield from _predictions(service)


def _predictions(service: Service) -> Iterator[str]:
    """Yield what would have been done, what it would have saved and cost."""
    for policy, count in service.would_act.items():
        saved = service.would_save.get(policy, 0.0)
        lost = service.would_lose.get(policy, 0.0)
        gain = f", saving {saved:g} s" if saved else ""
        cost = f"; {lost:g} of them succeeded" if lost else ""
        yield f"{_calls(count)} would have been {_DEEDS[policy]}{gain}{cost}"


_DEEDS: Final = {
    "timeout": "cut by a timeout",
    "retry": "retried",
    "breaker": "refused by the breaker",
    "bulkhead": "refused by the bulkhead",
    "throttle": "refused by the throttle",
    "fallback": "answered by a fallback",
}


def _calls(count: float) -> str:
    return f"{count:g} call" if count == 1 else f"{count:g} calls"


def _times(service: Service) -> str:
    median, late = service.quantile(0.5), service.quantile(0.99)
    if median is None or late is None:
        return ""
    mean = service.seconds / service.total
    return f"; mean {mean:.3g} s, p50 {median:.3g} s, p99 {late:.3g} s"
