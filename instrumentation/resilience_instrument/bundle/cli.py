"""`resilience bundle`: write the bundle's files, or install them over HTTP."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resilience_instrument.bundle import push, settings
from resilience_instrument.bundle.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable


def add_to(commands: Any) -> None:
    """Add `bundle` to the subcommands of `resilience`.

    Each sets `run`, which takes the parsed arguments and returns an exit code.
    """
    bundle = commands.add_parser(
        "bundle", help="write or install alert rules, dashboard and runbooks"
    )
    parts = bundle.add_subparsers(metavar="ACTION", required=True)
    _add_export(parts)
    _add_push(parts)


def _add_export(parts: Any) -> None:
    export = parts.add_parser("export", help="write the files below a directory")
    export.add_argument("directory", type=Path)
    export.add_argument("--format", choices=[*FORMATS, "all"], default="all")
    export.add_argument(
        "--resource-label",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a label of the Kubernetes resources, which a selector may ask for",
    )
    _add_settings(export)
    export.set_defaults(run=_export)


def _add_push(parts: Any) -> None:
    installs = parts.add_parser(
        "push",
        help="install over HTTP; without --apply it only says what it would do",
        epilog="The token for Grafana is read from GRAFANA_TOKEN, one for Prometheus, "
        "if it needs one, from PROMETHEUS_TOKEN. SSL_CERT_FILE names your own CA.",
    )
    installs.add_argument("--grafana", type=_checked(settings.url), metavar="URL")
    installs.add_argument("--folder", default="", metavar="UID", help="in Grafana")
    installs.add_argument(
        "--prometheus-reload", type=_checked(settings.url), metavar="URL"
    )
    installs.add_argument(
        "--rules-directory",
        type=Path,
        metavar="DIR",
        help="where the rule files of that Prometheus are, to write them first",
    )
    installs.add_argument("--apply", action="store_true", help="do it")
    _add_settings(installs)
    installs.set_defaults(run=_push)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--grafana-url", type=_checked(settings.url), help="what alerts link to"
    )
    parser.add_argument(
        "--runbook-url", type=_checked(settings.url), help="where you put the runbooks"
    )
    parser.add_argument(
        "--slo",
        type=_checked(settings.objective),
        default=settings.OBJECTIVE,
        metavar="PERCENT",
        help="calls that must not fail (default: %(default)s)",
    )
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a label that every alert gets",
    )


def _checked(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Let argparse say what is wrong with a setting."""

    def convert(text: str) -> Any:
        try:
            return read(text)
        except settings.SettingError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert


def _export(arguments: argparse.Namespace) -> int:
    """Write the files of the formats that were asked for, and say which."""
    try:
        baked = _settings(arguments)
        resource_labels = settings.labels(arguments.resource_label)
        wanted = [arguments.format] if arguments.format != "all" else FORMATS
        files: dict[str, str] = {}
        for name in wanted:
            files |= FORMATS[name](baked, resource_labels)
        for name, text in sorted(files.items()):
            _write(arguments.directory / name, text)
    except (settings.SettingError, OSError) as error:
        return _fail(error)
    for flag, value, placeholder in (
        ("--grafana-url", baked.grafana_url, settings.GRAFANA_URL),
        ("--runbook-url", baked.runbook_url, settings.RUNBOOK_URL),
    ):
        if value == placeholder:
            print(f"note: links of alerts lead to {value}; {flag} changes that")
    return 0


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(path)


def _push(arguments: argparse.Namespace) -> int:
    """Ask every server first; change something only if all agree and it is said so."""
    try:
        targets = _targets(arguments)
        for target in targets:
            print(target.plan())
        if not arguments.apply:
            print("nothing was changed; --apply does it")
            return 0
        for target in targets:
            print(target.apply())
    except (settings.SettingError, push.PushError, OSError) as error:
        return _fail(error)
    return 0


def _targets(arguments: argparse.Namespace) -> list[push.Target]:
    baked = _settings(arguments)
    targets: list[push.Target] = []
    if arguments.grafana:
        server = push.Server(arguments.grafana, os.environ.get("GRAFANA_TOKEN"))
        targets.append(push.Grafana(server, baked.dashboard(), arguments.folder))
    if arguments.prometheus_reload:
        url, token = arguments.prometheus_reload, os.environ.get("PROMETHEUS_TOKEN")
        targets.append(
            push.Prometheus(
                push.Server(url, token), baked.rules(), arguments.rules_directory
            )
        )
    if not targets:
        raise push.PushError("say where to: --grafana URL, --prometheus-reload URL")
    return targets


def _settings(arguments: argparse.Namespace) -> settings.Settings:
    # Who pushes to a Grafana wants the alerts to link to it.
    pushed_to = getattr(arguments, "grafana", None)
    return settings.Settings(
        grafana_url=arguments.grafana_url or pushed_to or settings.GRAFANA_URL,
        runbook_url=arguments.runbook_url or settings.RUNBOOK_URL,
        objective=arguments.slo,
        labels=settings.labels(arguments.label),
    )


def _fail(error: Exception) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 1
