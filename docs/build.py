"""Write the pages that come from the code: `python docs/build.py [--check]`.

With `--check` nothing is written; the exit code is 1 if a page is out of date.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from resilience_instrument.config import keys, match, profiles, schema
from resilience_instrument.signals import catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).resolve().parent
PACKAGE = Path(schema.__file__).resolve().parent

METRICS_INTRO = """\
# Metrics

Served at `http://127.0.0.1:9469/metrics` while a governed app runs, in the formats that
Prometheus reads. They lie in a store of the agent's own: an app that serves
`prometheus_client`'s registry finds nothing new in it.

Every child of a service exists with 0 as soon as the service is known, so that `rate()`
sees the first increment. `service` is `host` or `host:port` (the port where it is
not the scheme's own), at most 1024, then `other`. `endpoint` is a path with its
identifiers replaced, such as `/users/{id}`, at most 200 a service, then `other`. No
query string ever becomes a label.

<!-- Made by docs/build.py from the catalogue; edit that. -->
"""


def metrics() -> str:
    """Return the page of the metrics."""
    lines = [METRICS_INTRO, "| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in catalog.METRICS:
        labels = ", ".join(
            f"`{name}`" + (f" ({', '.join(values)})" if values else "")
            for name, values in metric.labels.items()
        )
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    bounds = ", ".join(f"{bound:g}" for bound in catalog.BUCKETS)
    lines += ["", "## Buckets", "", f"Both histograms end their buckets at {bounds} s."]
    return "\n".join(lines) + "\n"


def db_cases() -> str:
    """Return the page of the database drivers' cases."""
    script = Path(__file__).resolve().parent / "db_cases.py"
    return str(runpy.run_path(str(script))["page"]())


CONFIGURATION_INTRO = """\
# Configuration

Nothing needs to be configured. What is, stands in environment variables, in a file, or
in both; a variable wins over the file.

<!-- Made by docs/build.py from the table of keys; edit that. -->

## The file

```toml
[defaults]
retry = { max_attempts = 2 }

[profiles.external-api]
timeout = { read = 20, total = 25 }

[services.payment-api]
match = ["https://payments.example.com", "pay.internal:8443/v2/*"]
profile = "external-api"
timeout = { connect = 3.0, read = "10s", total = "15s" }
breaker = { consecutive = 5, open_for = 30 }
endpoints = ["/orders/{id}", "/files/{path...}"]
idempotency_key = "Idempotency-Key"
fallback = { cache = { max_age = 300 } }

[services.orders-db]
match = "postgresql://db.internal/orders"

[metrics]
port = 9469
```

It is used when somebody names it: `resilience-instrument --config FILE ...`, or
`RESILIENCE_CONFIG=FILE`. With `auto` instead of a name, `resilience.toml` in the
directory in which the command starts is used, if it is there.

- `resilience check FILE` says all that is wrong with it, and exits 1 if there is
  anything. Notes are about what can be used and is seldom meant: a read timeout out of
  the usual range of its use, no pause before a retry, a fallback for a database.
- `resilience show URL` says what holds for a URL or a DSN, and where each value comes
  from.
- `resilience doctor` says what would be governed in an environment, with the same
  notes and the services that have no fallback; `resilience doctor PROGRAM` why a
  program would not be.
- `resilience schema` prints its JSON Schema, for editors.

An app whose file or variables cannot be used runs ungoverned; one line on stderr says
why. While it runs, a changed file is read again, once a second at most; one that
cannot be used leaves everything as it was (`resilience_config_reload_total` counts
both). Circuits and budgets are kept. A call that is under way ends by the settings it
began with.

Seconds are numbers or texts such as `"500ms"`, `"30s"` or `"5m"`. `"off"` stands for
no limit and for a rule that is not wanted.

## Which value holds

From the weakest to the strongest:

1. the default,
2. the profile that was found by itself or that `[defaults]` names,
3. `[defaults]`,
4. the profile that the service names, and its own section `[profiles.NAME]`,
5. `[services.NAME]`,
6. the environment.

A value that nobody wrote gives way to one that somebody wrote: a read timeout of 60 s
raises a total of 30 s that is only the default. Two written values that contradict each
other are an error.

## Patterns

| pattern | what belongs to it |
|---|---|
| `https://pay.example.com` | this host, at the port of its scheme |
| `pay.example.com` | this host by HTTP or HTTPS, at any port |
| `pay.example.com:8443/v2/*` | this port, and paths that are `/v2` or below it |
| `*.example.com` | every host below; a star in a path stands for anything too |
| `postgresql://db.internal/orders` | this database of this server; without it, all |
| `sqlite:///app.db` | the file of this name, wherever it is |

The most specific pattern wins: the longer path, then the plainer and longer host, then
the one that names a port, then the one that names a scheme. A call that fits none has
its host as the service.

"""


def configuration() -> str:
    """Return the page of the configuration."""
    lines = [CONFIGURATION_INTRO.rstrip("\n")]
    for section in keys.SECTIONS:
        lines += ["", f"## {section.title}", "", section.help, ""]
        if not section.service:
            lines[-2] += f" They stand in `[{section.name}]`."
        lines += ["| key | default | meaning | variable | why this default |"]
        lines += ["|---|---|---|---|---|"]
        lines += [_key(key) for key in keys.KEYS if key.section == section.name]
    return "\n".join(lines) + "\n"


def _key(key: keys.Key) -> str:
    default = key.kind.show(key.default).strip('"')
    derived = f"; {key.derived}" if key.derived else ""
    variable = f"`{key.env}`" if key.variable else ""
    return (
        f"| `{key.name}` | `{default or ' '}`{derived} | {key.help} | {variable}"
        f" | {key.source} |"
    )


PROFILES_INTRO = """\
# Profiles

A health check that is late is a failed one; an upload takes its time. A profile holds
what is usual for one use. By itself (`profile = "auto"`, the default) a call gets the
first one of these whose rule fits:

<!-- Made by docs/build.py from the profiles; edit those. -->
"""

PROFILES_END = """\
The rules stand in `[agent]` and can be changed there: `internal_hosts`, `health_paths`
and `upload_from`; an empty list or `"off"` switches a rule off. A service that names
its profile has it for every call: no rule is asked. `profile = "none"` means the
defaults alone.

A health check or an upload has timeouts of its own, but the circuit and the budget
are those of its service.

`[profiles.NAME]` changes a profile, or makes a new one:

```toml
[profiles.internal-api]
timeout = { read = 4, total = 8 }

[profiles.nightly]
timeout = { read = 600, total = "off" }
retry = { max_attempts = 5 }

[services.warehouse]
match = "warehouse.internal"
profile = "nightly"
```

`resilience show URL` says which profile a URL gets, and why.
"""


def profile_page() -> str:
    """Return the page of the profiles."""
    order = (
        "health-check",
        "upload",
        "internal-api",
        "external-api",
        "database",
        "batch",
    )
    lines = [PROFILES_INTRO, "| profile | when | for |", "|---|---|---|"]
    for name in order:
        profile = profiles.PROFILES[name]
        lines.append(f"| `{name}` | {profile.rule} | {profile.help} |")
    paths = sorted({path for p in profiles.PROFILES.values() for path in p.values})
    lines += ["", f"| profile | {' | '.join(f'`{path}`' for path in paths)} | why |"]
    lines += ["|---" * (len(paths) + 2) + "|"]
    for name in order:
        profile = profiles.PROFILES[name]
        lines.append(
            f"| `{name}` | {' | '.join(_cells(profile, paths))} | {profile.source} |"
        )
    ports = ", ".join(f"{scheme} {port}" for scheme, port in match.PORTS.items())
    lines += [
        "",
        f"Everything else is the default. Ports that need not be said: {ports}.",
    ]
    return "\n".join([*lines, "", PROFILES_END])


def _cells(profile: profiles.Profile, paths: list[str]) -> list[str]:
    cells = []
    for path in paths:
        kind, values = keys.BY_PATH[path].kind, profile.values
        cells.append(kind.show(values[path]).strip('"') if path in values else "")
    return cells


PAGES: dict[str, Callable[[], str]] = {
    "metrics.md": metrics,
    "db-cases.md": db_cases,
    "configuration.md": configuration,
    "profiles.md": profile_page,
}


def _files() -> dict[str, tuple[Path, str]]:
    """Return the place and the content of every file, by the name that it has."""
    found = {f"docs/{name}": (HERE / name, make()) for name, make in PAGES.items()}
    found["the package's schema.json"] = (PACKAGE / "schema.json", schema.text())
    return found


def main(arguments: Sequence[str]) -> int:
    """Write or check every page; return the exit code."""
    stale = []
    for name, (file, text) in _files().items():
        if "--check" not in arguments:
            file.write_text(text, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(name)
    for name in stale:
        sys.stderr.write(f"{name} is out of date; make docs writes it\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
