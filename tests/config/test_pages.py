"""What the pages show as a configuration is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from resilience_instrument.config.document import parse
from resilience_instrument.config.load import read_environment
from resilience_instrument.config.plan import Plan
from resilience_instrument.integrations._fallback import FailedCall

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
BLOCK = re.compile(r"^```(toml|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    (page.name, kind, text)
    for page in sorted(DOCS.glob("*.md"))
    for kind, text in BLOCK.findall(page.read_text(encoding="utf-8"))
]

SKETCH = """
[defaults]
profile = "internal-api"

[services.payment-api]
match = ["https://payments.example.com", "pay.internal:8443/v2/*"]
profile = "external-api"
timeout = { connect = 3.0, read = 10.0, total = 15.0 }
retry = { max_attempts = 3, base_delay = 1.0, max_delay = 30.0, jitter = "full" }
idempotency_key = "Idempotency-Key"
fallback = { cache = { max_age = 300 } }

[services.payment-api.breaker]
consecutive = 5
failure_rate = 0.5
window = "30s"
min_calls = 20
open_for = 30.0
successes_to_close = 2

[services.orders-db]
match = ["postgresql://db.internal/orders"]
profile = "database"
"""


@pytest.mark.parametrize(
    ("page", "text"),
    [(page, text) for page, kind, text in BLOCKS if kind == "toml"]
    + [("sketch", SKETCH)],
)
def test_a_page_shows_a_good_configuration(page: str, text: str) -> None:
    """Whoever copies it has one that works."""
    document = parse(text, page)

    findings = document.findings + Plan(read_environment({})[0], document).check()

    assert [] == findings


def test_the_function_of_the_fallback_page_runs() -> None:
    """It gets what the page says."""
    (text,) = [text for page, kind, text in BLOCKS if (page, kind) == FUNCTION]
    names: dict[str, object] = {}
    exec(text, names)
    prices = names["prices"]
    assert callable(prices)

    failed = FailedCall("prices", "GET", "http://prices/", {}, 503, None)

    assert {"prices": [], "stale": True} == prices(failed)


FUNCTION = ("fallback.md", "python")
