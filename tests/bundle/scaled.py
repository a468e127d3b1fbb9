"""Time that runs faster: every duration of the rules divided by one factor.

With `FACTOR` 100 an hour takes 36 s: `[5m]` becomes `[3s]`, `for: 15m` becomes
`for: 9s`, Alertmanager's `group_wait: 30s` 300 ms. Ratios, thresholds and
numbers of calls stay as they are, so a scenario needs the calls of five minutes in
three seconds. What the agent is told in seconds (how long a circuit stays open) is
chosen to fit.

Ranges beyond an hour are divided by `LONG` besides: `[2h]` becomes `[36s]`. Most of the
play was waiting for them to forget the outage. Its failures are far above the
thresholds of either, so the same alerts fire.
"""

from __future__ import annotations

import re

from bundle.firing import SECONDS, seconds

FACTOR = 100
LONG = 2
_FIELD = re.compile(r"(?<=: )((?:\d+[smhd])+)$", re.MULTILINE)
_RANGE = re.compile(r"(?<=\[)((?:\d+[smhd])+)(?::((?:\d+[smhd])+))?(?=\])")
_OFFSET = re.compile(r"(?<=offset )((?:\d+[smhd])+)")
_LABELS = re.compile(r"^ +(?:long|short): .*$", re.MULTILINE)


def shorter(duration: str) -> str:
    """Return a duration divided by the factor."""
    return f"{round(seconds(duration) * 1000 / FACTOR)}ms"


def shorter_range(duration: str) -> str:
    """Return the range of a selector so, one beyond an hour divided by more."""
    more = LONG if seconds(duration) > SECONDS["h"] else 1
    return f"{round(seconds(duration) * 1000 / FACTOR / more)}ms"


def scale(text: str) -> str:
    """Return rules, configuration or an expression with every duration divided."""
    kept = _LABELS.findall(text)
    text = _LABELS.sub("\0", text)
    text = _FIELD.sub(lambda m: shorter(m[1]), text)
    text = _OFFSET.sub(lambda m: shorter(m[1]), text)
    text = _RANGE.sub(
        lambda m: shorter_range(m[1]) + (f":{shorter(m[2])}" if m[2] else ""), text
    )
    for line in kept:
        text = text.replace("\0", line, 1)
    return text
