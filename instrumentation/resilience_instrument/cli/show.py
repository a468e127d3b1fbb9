"""`resilience show URL-OR-DSN`: what holds for it, and where each value comes from."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from resilience_instrument.cli.terminal import paint, print_json, print_table
from resilience_instrument.config.keys import SERVICE_KEYS
from resilience_instrument.config.load import examine, file_of
from resilience_instrument.config.match import PORTS, destination

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from resilience_instrument.cli.admin import Commands
    from resilience_instrument.config.keys import Key
    from resilience_instrument.config.match import Destination
    from resilience_instrument.config.plan import Plan
    from resilience_instrument.config.resolve import Setting

WRONG_USE = 2


def add_to(commands: Commands) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "show", help="say what holds for a URL or a DSN, and where each value is from"
    )
    parser.add_argument("destination", metavar="URL-OR-DSN")
    parser.add_argument("--config", metavar="FILE", help="instead of RESILIENCE_CONFIG")
    parser.add_argument(
        "--upload", action="store_true", help="as for a call with a large body"
    )
    parser.add_argument("--json", action="store_true", help="print for machines")
    parser.set_defaults(run=run)


class _Shown(NamedTuple):
    """What holds for one destination."""

    service: str
    configured: bool
    profile: str
    reason: str
    settings: dict[str, Setting]


def run(options: argparse.Namespace) -> int:
    """Print what holds; return 1 for a bad configuration, 2 for no URL."""
    try:
        to = destination(options.destination)
    except ValueError:
        sys.stderr.write(f"resilience show: {options.destination}: no URL and no DSN\n")
        return WRONG_USE
    file = options.config if options.config is not None else file_of(os.environ)
    plan, findings = examine(os.environ, file)
    if findings:
        for finding in findings:
            sys.stderr.write(f"{finding}\n")
        return 1
    shown = _shown(plan, to, upload=options.upload)
    if options.json:
        print_json(_as_data(options.destination, shown))
    else:
        _print(shown)
    return 0


def _shown(plan: Plan, to: Destination, *, upload: bool) -> _Shown:
    service = plan.service_of(to)
    profile, reason = plan.profile_of(to, upload=upload)
    settings = plan.explained(service, profile)
    return _Shown(service or label(to), service is not None, profile, reason, settings)


def label(to: Destination) -> str:
    """Return the service of a call that no pattern fits."""
    host = f"[{to.host}]" if ":" in to.host else to.host
    if to.port is not None and to.port != PORTS.get(to.scheme):
        host = f"{host}:{to.port}"
    return host if to.scheme in {"http", "https"} else f"{to.scheme}://{host}{to.path}"


def _print(shown: _Shown) -> None:
    by = "configured" if shown.configured else "its host: no pattern fits"
    rows = [
        ("service", shown.service, by),
        ("profile", shown.profile, shown.reason),
    ]
    for key, setting in _told(shown):
        source = setting.source
        if setting.reason:
            source = f"{source}: {setting.reason}"
        rows.append((key.path, key.kind.show(setting.value), source))
    print_table(rows)
    if not shown.settings["enabled"].value:
        print(paint("Calls pass untouched: the service is not enabled.", "bad"))


def _told(shown: _Shown) -> Iterator[tuple[Key, Setting]]:
    """Yield every setting that has a meaning for the service."""
    for key in SERVICE_KEYS:
        absent = key.section.count(".") and key.section not in shown.settings
        if not absent and key.path not in {"match", "profile"}:
            yield key, shown.settings[key.path]


def _as_data(text: str, shown: _Shown) -> dict[str, object]:
    return {
        "destination": text,
        "service": shown.service,
        "configured": shown.configured,
        "profile": {"name": shown.profile, "reason": shown.reason},
        "settings": {
            key.path: {
                "value": setting.value,
                "source": setting.source,
                "reason": setting.reason,
                "written": setting.written,
            }
            for key, setting in _told(shown)
        },
    }
