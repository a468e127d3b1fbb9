"""Load the settings, checked before they are used, from variables and a file.

A name is `RESILIENCE_`, the section and the key, such as
`RESILIENCE_TIMEOUT_READ=5`. What cannot be used raises `ConfigError`, which says
the place, the key, the value and what would do.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from resilience_instrument.config.findings import Finding, refuse
from resilience_instrument.config.keys import KEYS
from resilience_instrument.config.layer import Layer
from resilience_instrument.config.model import AgentSettings
from resilience_instrument.config.plan import Plan
from resilience_instrument.config.profiles import NONE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resilience_instrument.config.document import Document

CONFIG: Final = "RESILIENCE_CONFIG"
"""The variable that names the file."""
AUTO: Final = "auto"
"""The file's name where the one in the start directory is meant, if it is there."""
NAME: Final = "resilience.toml"

POLICIES: Final = ("timeout", "retry", "breaker", "fallback")
"""What can be left out of a library."""


def from_environment(environ: Mapping[str, str]) -> AgentSettings:
    """Return what the variables and the file that they name ask for.

    Raises:
        ConfigError: Something in them cannot be used.
    """
    plan, findings = examine(environ, file_of(environ))
    refuse(findings)
    return agent_settings(plan)


def file_of(environ: Mapping[str, str]) -> str | None:
    """Return the path of the file that is to be used, None for none."""
    name = environ.get(CONFIG, "").strip()
    if name != AUTO:
        return name or None
    path = os.path.join(os.getcwd(), NAME)  # noqa: PTH109, PTH118 - pathlib is not loaded for this
    return path if os.path.exists(path) else None  # noqa: PTH110 - as above


def examine(environ: Mapping[str, str], file: str | None) -> tuple[Plan, list[Finding]]:
    """Read everything and return it with all that is wrong with it.

    A plan that comes with findings must not be used.
    """
    environment, findings = read_environment(environ)
    found: Document | None = None
    if file is not None:
        from resilience_instrument.config import document  # noqa: PLC0415 - slow to load

        found = document.read(file)
        findings += found.findings
    plan = Plan(environment, found)
    findings += _left_out(plan)[1]
    if not findings:
        # Else a contradiction may be the consequence of what was left out.
        findings += plan.check()
    return plan, findings


def read_environment(environ: Mapping[str, str]) -> tuple[Layer, list[Finding]]:
    """Return what the variables say, and which of them cannot be used.

    An empty variable says nothing.
    """
    layer, findings = Layer("the environment"), []
    for key in KEYS:
        text = environ.get(key.env, "") if key.variable else ""
        if not text.strip():
            continue
        try:
            layer.values[key.path] = key.kind.parse(text)
        except (ValueError, OverflowError):
            findings.append(
                Finding("", f"{key.env}={text!r}", f"use {key.kind.wanted}")
            )
        else:
            layer.places[key.path] = key.env
    return layer, findings


def _left_out(plan: Plan) -> tuple[tuple[tuple[str, str], ...], list[Finding]]:
    """Split `agent.disable` into libraries and policies."""
    found = plan.process["agent.disable"]
    pairs, findings = [], []
    for item in found.value if isinstance(found.value, tuple) else ():
        library, colon, policy = str(item).partition(":")
        if not library or (colon and policy not in POLICIES):
            said = f"use library or library:policy, with {', '.join(POLICIES)}"
            findings.append(Finding(found.source, f'agent.disable: "{item}"', said))
        pairs.append((library.strip(), policy))
    return tuple(pairs), findings


def agent_settings(plan: Plan) -> AgentSettings:
    """Return what a process gets out of a plan without findings."""
    said: dict[str, Any] = {path: s.value for path, s in plan.process.items()}
    pairs, _ = _left_out(plan)
    return AgentSettings(
        disabled=frozenset(library for library, policy in pairs if not policy),
        metrics_host=said["metrics.host"],
        metrics_ports=said["metrics.port"],
        defaults=plan.settings(None, NONE),
        plan=plan,
        left_out=frozenset(pair for pair in pairs if pair[1]),
        banner=said["agent.banner"],
        reload=said["agent.reload"],
        tracing=said["tracing.enabled"],
    )
