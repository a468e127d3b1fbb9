"""`resilience doctor`: what would be governed here, and what stands in the way."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import sys
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from resilience_instrument import __version__, activation
from resilience_instrument.bootstrap import diagnosis
from resilience_instrument.cli.terminal import paint, print_json
from resilience_instrument.config.advice import advise, without_fallback
from resilience_instrument.config.findings import unknown
from resilience_instrument.config.keys import KEYS, PREFIX
from resilience_instrument.config.load import (
    CONFIG,
    agent_settings,
    examine,
    file_of,
)
from resilience_instrument.integrations._http import IDEMPOTENT, RETRIED
from resilience_instrument.integrations.catalog import LIBRARIES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from resilience_instrument.cli.admin import Commands
    from resilience_instrument.config.model import AgentSettings, ServiceSettings
    from resilience_instrument.config.plan import Plan

OTHERS: Final = frozenset(
    {
        CONFIG,
        "RESILIENCE_ENABLED",
        activation.ACTIVE,
        activation.PREFIX,
        activation.PYTHON,
        activation.LAUNCH_PID,
        "RESILIENCE_RUN_ID",
        "RESILIENCE_RUN_DIR",
        "RESILIENCE_METRICS_BRIDGE",
        "RESILIENCE_DEBUG",
        "RESILIENCE_TEST_FAULT",
    }
)
"""Variables that are no settings."""

NEIGHBOURS: Final = {
    "opentelemetry-instrumentation-requests": "it makes the spans of attempts",
    "opentelemetry-instrumentation-httpx": "it makes the spans of attempts",
    "ddtrace": "it makes the spans of attempts",
    "newrelic": "it makes the spans of attempts",
    "elastic-apm": "it makes the spans of attempts",
    "tenacity": "calls that it retries are not retried again where that is seen",
    "backoff": "calls that it retries are not retried again where that is seen",
    "stamina": "calls that it retries are not retried again where that is seen",
}
"""Distributions that do part of the same work, and what that means."""

Health = Literal["good", "bad", "note"]


class Line(NamedTuple):
    """One thing that the doctor says.

    Attributes:
        topic: What it is about.
        text: What there is to say.
        health: Whether it is good, bad (apps would run ungoverned), or a note.
    """

    topic: str
    text: str
    health: Health = "good"


def add_to(commands: Commands) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "doctor", help="say what would be governed here, and whether settings hold"
    )
    parser.add_argument(
        "program",
        nargs="?",
        help="a program that is to be governed: a script, a command, an archive",
    )
    parser.add_argument("--json", action="store_true", help="print for machines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Say what the agent would do in this environment; 1 if it would do nothing."""
    lines = list(examined(os.environ))
    if options.program is not None:
        lines += _program(options.program)
    if options.json:
        print_json([line._asdict() for line in lines])
    else:
        for line in lines:
            text = f"{line.topic}: {line.text}"
            print(paint(text, "bad") if line.health == "bad" else text)
    return 1 if any(line.health == "bad" for line in lines) else 0


def examined(environ: Mapping[str, str]) -> Iterator[Line]:
    """Yield everything that there is to say."""
    python = platform.python_version()
    yield Line("resilience-instrument", f"{__version__} on Python {python}")
    yield Line("environment", sys.prefix)
    yield from _activation(environ)
    file = file_of(environ)
    yield Line("configuration", file or "environment variables only")
    plan, findings = examine(environ, file)
    for finding in findings:
        said = f"cannot be used, apps would run ungoverned: {finding}"
        yield Line("settings", said, "bad")
    yield from _strangers(environ)
    if findings:
        return
    settings = agent_settings(plan)
    yield Line("settings", "good")
    yield Line("mode", settings.defaults.mode)
    for library in sorted(LIBRARIES):
        yield Line(library, _standing(library, settings))
    yield from _policies(settings.defaults)
    yield _metrics(settings)
    yield from _advice(plan)
    yield from _neighbours()


def _policies(own: ServiceSettings) -> Iterator[Line]:
    """Say what holds for a call that nobody says more about."""
    limits = [
        f"{part} {'no limit' if limit is None else f'{limit:g} s'}"
        for part in ("connect", "read", "total")
        for limit in [getattr(own.timeout, part)]
    ]
    said = f"where the app gives none: {', '.join(limits)}"
    yield Line("timeouts", said)
    statuses = RETRIED if own.retry.on_statuses is None else own.retry.on_statuses
    after = ", ".join(map(str, sorted(statuses)))
    said = f"{', '.join(sorted(IDEMPOTENT))} and calls with an idempotency key, after"
    said = f"{said} {after} and failures of the connection, up to"
    yield Line("retries", f"{said} {own.retry.max_attempts} attempts")
    yield Line("retries", "any other call only where nothing of it was sent")


def _advice(plan: Plan) -> Iterator[Line]:
    """Say what is allowed and yet seldom meant."""
    for note in advise(plan):
        yield Line("advice", str(note), "note")
    lonely = without_fallback(plan)
    if lonely:
        said = f"no fallback: {', '.join(lonely)} (their calls end in an error)"
        yield Line("advice", said, "note")


def _activation(environ: Mapping[str, str]) -> Iterator[Line]:
    """Say why apps would not be governed, or by which way they are."""
    asked = environ.get(activation.ACTIVE) == "1" or activation.is_off(environ)
    # Who only looks around was started by nobody, and that is no fault.
    reasons = diagnosis.of_process(environ) if asked else []
    for reason in reasons:
        yield Line("activation", f"inactive here: {reason}", "bad")
    if reasons:
        return
    carried = diagnosis.has_start_up_file()
    ways = ["PYTHONPATH", *(["resilience_instrument.pth"] if carried else [])]
    yield Line("activation", f"through {' and '.join(ways)}")
    if not carried:
        said = "resilience_instrument.pth is not installed"
        said = f"{said}: python -I and -E are not reached"
        yield Line("activation", said, "note")
    said = "not reached: python -S, frozen programs, processes without our variables"
    yield Line(
        "activation", f"{said} (import resilience_instrument.auto there)", "note"
    )


def _program(name: str) -> Iterator[Line]:
    """Say why a program would not be governed, as far as one sees."""
    path = shutil.which(name) or name
    reasons = diagnosis.of_program(path)
    for reason in reasons:
        yield Line(path, f"would not be governed: {reason}", "bad")
    if not reasons:
        yield Line(path, "would be governed")


def _strangers(environ: Mapping[str, str]) -> Iterator[Line]:
    """Find variables that nobody reads, which are settings with a typing error."""
    known = {key.env for key in KEYS if key.variable} | OTHERS
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            yield Line(name, unknown(name, known), "note")


def _standing(library: str, settings: AgentSettings) -> str:
    if library in settings.disabled:
        return "disabled by RESILIENCE_DISABLE"
    version = _version(library)
    if version is None:
        return "not installed here"
    without = sorted(p for name, p in settings.left_out if name == library)
    ending = f", without {' and '.join(without)}" if without else ""
    return f"{version}, would be governed{ending}"


def _version(library: str) -> str | None:
    """Return the version of what an app would import, None if it is not there."""
    try:
        if importlib.util.find_spec(library) is None:
            return None
    except ModuleNotFoundError:
        # The package around it is not there either.
        return None
    package = library.partition(".")[0]
    for owner in _owners().get(package, ()):
        return importlib.metadata.version(owner)
    return "part of Python"


@functools.cache
def _owners() -> Mapping[str, list[str]]:
    """Return who installed each package: asked once, it reads every distribution."""
    return importlib.metadata.packages_distributions()


def _metrics(settings: AgentSettings) -> Line:
    ports, host = settings.metrics_ports, settings.metrics_host
    if not ports:
        return Line("metrics", "off")
    shown = f"{ports[0]}-{ports[-1]}" if len(ports) > 1 else f"{ports[0]}"
    taken = []
    for port in ports:
        if _is_free(host, port):
            break
        taken.append(port)
    if len(taken) == len(ports):
        return Line("metrics", f"{host}, port {shown}: none is free", "note")
    if taken:
        said = f"{host}, port {shown}; {ports[len(taken)]} is the first free one"
        return Line("metrics", said)
    return Line("metrics", f"{host}, port {shown}")


def _is_free(host: str, port: int) -> bool:
    try:
        with socket.create_server((host, port)):
            return True
    except OSError:
        return False


def _neighbours() -> Iterator[Line]:
    """Find distributions that do part of the same work."""
    for name, meaning in NEIGHBOURS.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        yield Line("beside it", f"{name} {version}: {meaning}", "note")
