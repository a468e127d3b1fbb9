"""Which service a call belongs to, which profile it gets, and which value holds."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from resilience_instrument.config.document import parse
from resilience_instrument.config.findings import Finding
from resilience_instrument.config.load import read_environment
from resilience_instrument.config.match import (
    Destination,
    Pattern,
    destination,
    template_of,
)
from resilience_instrument.config.plan import Plan

THREE_LEVELS = """\
[defaults]
timeout = { connect = 2, read = 8 }
retry = { max_attempts = 2 }
breaker.open_for = 40

[profiles.external-api]
timeout = { read = 20, write = "15s" }

[services.pay]
match = ["https://pay.example.com", "pay.internal:8443/v2/*"]
profile = "external-api"
timeout.pool = 1

[services.shop]
match = "shop.internal"
"""


def plan_of(text: str = "", **environ: str) -> Plan:
    """Return the plan of a file and variables, which must be good."""
    layer, findings = read_environment(
        {f"RESILIENCE_{k}": v for k, v in environ.items()}
    )
    document = parse(text, "r.toml") if text else None
    assert [] == findings
    assert document is None or [] == document.findings
    plan = Plan(layer, document)
    assert [] == plan.check()
    return plan


def found(plan: Plan, url: str, **facts: Any) -> tuple[str | None, str, float | None]:
    """Return service, profile and read timeout of a call."""
    result = plan.find(destination(url), **facts)
    return result.service, result.own.profile, result.own.timeout.read


# -- patterns ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "url", "fits"),
    [
        ("https://pay.example.com", "https://pay.example.com/x", True),
        ("https://pay.example.com", "https://PAY.example.com:443/x", True),
        ("https://pay.example.com", "http://pay.example.com/x", False),
        ("https://pay.example.com", "https://pay.example.com:8443/", False),
        ("https://pay.example.com:*", "https://pay.example.com:8443/", True),
        ("pay.example.com", "http://pay.example.com:8080/", True),
        ("pay.example.com", "https://pay.example.com/", True),
        ("pay.example.com", "https://api.pay.example.com/", False),
        ("pay.example.com", "postgresql://pay.example.com/db", False),
        ("*.example.com", "https://a.b.example.com/", True),
        ("*.example.com", "https://example.com/", False),
        ("api-*.example.com", "https://api-eu.example.com/", True),
        ("*", "http://anything/", True),
        ("pay:8443/v2/*", "https://pay:8443/v2/orders", True),
        ("pay:8443/v2/*", "https://pay:8443/v2", True),
        ("pay:8443/v2/*", "https://pay:8443/v20", False),
        ("pay/v2", "https://pay/v2/orders?x=/v3", True),
        ("pay/*/orders", "https://pay/eu/orders", True),
        ("[::1]:8080", "http://[::1]:8080/", True),
        ("postgres://db.internal/orders", "postgresql://db.internal:5432/orders", True),
        ("postgresql://db.internal", "postgresql://me:pw@db.internal/any", True),
        ("postgresql://*/orders", "postgresql://db1/orders", True),
        ("postgresql://db/orders", "postgresql://db/orders2", False),
        ("mysql://db", "mysql+pymysql://db:3306/x", True),
        ("sqlite:///var/lib/app.db", "sqlite:///var/lib/app.db", True),
        ("sqlite:///var/lib/app.db", "sqlite:///tmp/app.db", False),
        ("sqlite:///app.db", "sqlite:app.db", True),
    ],
)
def test_a_pattern_fits_or_not(pattern: str, url: str, fits: bool) -> None:
    """Scheme, host, port and path each have their say."""
    to = destination(url)
    parsed = Pattern(pattern)

    assert fits == (parsed.fits_origin(to) and parsed.fits_path(to.path))


def test_the_most_specific_pattern_wins() -> None:
    """Whatever the order in the file."""
    plan = plan_of(
        """
[services.any]
match = "*"
[services.domain]
match = "*.example.com"
[services.host]
match = "a.example.com"
[services.port]
match = "a.example.com:8080"
[services.scheme]
match = "https://a.example.com:8080"
[services.path]
match = "a.example.com/v1/*"
[services.deeper]
match = "a.example.com/v1/pay"
"""
    )
    urls = {
        "http://b.other/": "any",
        "http://b.example.com/": "domain",
        "http://a.example.com/": "host",
        "http://a.example.com:8080/": "port",
        "https://a.example.com:8080/": "scheme",
        "https://a.example.com:8080/v1/x": "path",
        "https://a.example.com:8080/v1/pay?amount=1": "deeper",
        "postgresql://a.example.com/v1": None,
    }

    assert urls == {url: plan.service_of(destination(url)) for url in urls}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "https://me:pw@Pay.example.com/a?b#c",
            ("https", "pay.example.com", None, "/a"),
        ),
        ("pay.example.com", ("https", "pay.example.com", None, "/")),
        ("http://[::1]:80/", ("http", "::1", 80, "/")),
        ("postgresql+psycopg://u:p@h:5433/d", ("postgresql", "h", 5433, "/d")),
        ("sqlite:///a.db", ("sqlite", "", None, "/a.db")),
    ],
)
def test_a_url_says_where_it_leads(text: str, expected: tuple[object, ...]) -> None:
    """Without user, password, query and driver."""
    assert expected == destination(text)


@pytest.mark.parametrize("text", ["", "http://a b/", "http://a:port/"])
def test_what_leads_nowhere_is_refused(text: str) -> None:
    """A URL that nobody can call."""
    with pytest.raises(ValueError, match=r"^"):
        destination(text)


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/orders/4711", "/orders/{id}"),
        ("/orders/4711?x=1", "/orders/{id}"),
        ("/orders/", None),
        ("/orders/1/2", None),
        ("/files/a/b/c", "/files/{path...}"),
        ("/files/a", "/files/{path...}"),
        ("/files", None),
        ("/x", None),
    ],
)
def test_a_path_gets_the_first_template_that_it_fits(
    path: str, template: str | None
) -> None:
    """A part for a part; the last may take the rest."""
    assert template == template_of(["/orders/{id}", "/files/{path...}"], path)


# -- profiles ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "profile", "read"),
    [
        ("http://127.0.0.1:8080/orders", "internal-api", 10.0),
        ("http://10.1.2.3/orders", "internal-api", 10.0),
        ("http://192.168.1.1/", "internal-api", 10.0),
        ("http://[fd00::1]/", "internal-api", 10.0),
        ("http://169.254.169.254/latest", "internal-api", 10.0),
        ("http://localhost/", "internal-api", 10.0),
        ("http://orders/", "internal-api", 10.0),
        ("http://orders.shop.svc.cluster.local/", "internal-api", 10.0),
        ("http://orders.shop.svc/", "internal-api", 10.0),
        ("http://pay.internal/", "internal-api", 10.0),
        ("https://api.example.com/", "external-api", 30.0),
        ("https://8.8.8.8/", "external-api", 30.0),
        ("https://api.example.com/health", "health-check", 3.0),
        ("https://api.example.com/healthz?full=1", "health-check", 3.0),
        ("http://orders/actuator/health/db", "health-check", 3.0),
        ("http://orders/livez", "health-check", 3.0),
        ("http://orders/livezoo", "internal-api", 10.0),
        ("postgresql://db.internal/orders", "database", 30.0),
    ],
)
def test_a_call_gets_its_profile_by_itself(url: str, profile: str, read: float) -> None:
    """By the rules of the profiles' page."""
    assert (None, profile, read) == found(plan_of(), url)


def test_an_upload_is_one_by_its_body() -> None:
    """But a health check is a health check, and a database none."""
    plan = plan_of()

    assert (None, "upload", 300.0) == found(plan, "http://files/", upload=True)
    assert "health-check" == found(plan, "http://files/health", upload=True)[1]
    assert "database" == found(plan, "mysql://db/x", upload=True)[1]
    assert "internal-api" == plan.find(destination("http://f/"), upload=True)[1].profile


@pytest.mark.parametrize(
    ("length", "content_type", "is_upload"),
    [
        (None, "", False),
        (1_048_575, "application/json", False),
        (1_048_576, "application/json", True),
        (10, "multipart/form-data; boundary=x", True),
        (10, "Multipart/Mixed", True),
    ],
)
def test_large_and_multipart_bodies_are_uploads(
    length: int | None,
    content_type: str,
    is_upload: bool,
) -> None:
    """From 1 MiB on."""
    assert is_upload == plan_of().rules.is_upload(length, content_type)


def test_each_rule_can_be_changed_and_switched_off() -> None:
    """In the file or by variables."""
    plan = plan_of(
        '[agent]\ninternal_hosts = ["*.corp.example"]\nhealth_paths = []\n'
        'upload_from = "off"\n'
    )
    variable = plan_of(UPLOAD_FROM="10", HEALTH_PATHS="/alive")

    assert "internal-api" == found(plan, "http://a.corp.example/health")[1]
    assert "external-api" == found(plan, "http://pay.internal.example/")[1]
    assert not plan.rules.is_upload(10**9, "multipart/form-data")
    assert variable.rules.is_upload(10, "")
    assert "health-check" == found(variable, "http://a/alive")[1]


def test_a_named_profile_asks_no_rule() -> None:
    """Neither the path nor the body changes it."""
    plan = plan_of(
        '[defaults]\nprofile = "batch"\n[services.a]\nmatch = "a"\nprofile = "none"\n'
        '[services.b]\nmatch = "b"\nprofile = "auto"\n'
    )

    assert (None, "batch", 300.0) == found(plan, "http://x/health", upload=True)
    assert ("a", "", 10.0) == found(plan, "http://a/health")
    assert ("b", "health-check", 3.0) == found(plan, "http://b/health")


def test_a_profile_of_ones_own_has_its_values() -> None:
    """And the name that it was given."""
    plan = plan_of(
        '[profiles.nightly]\ntimeout = { read = 600, total = "off" }\n'
        '[services.a]\nmatch = "a"\nprofile = "nightly"\n'
    )

    assert ("a", "nightly", 600.0) == found(plan, "http://a/")
    assert plan.find(Destination("http", "a")).own.timeout.total is None


# -- which value holds ------------------------------------------------------


def sources(
    plan: Plan, service: str | None, profile: str
) -> dict[str, tuple[Any, str]]:
    """Return value and source of the keys that the tests look at."""
    explained = plan.explained(service, profile)
    keys = (
        "timeout.connect",
        "timeout.read",
        "timeout.write",
        "timeout.pool",
        "timeout.total",
        "retry.max_attempts",
        "breaker.open_for",
    )
    return {key: explained[key][:2] for key in keys}


def test_every_value_of_three_levels_has_its_source() -> None:
    """Default, profile, its section, `[defaults]`, the service, a variable."""
    plan = plan_of(THREE_LEVELS, BREAKER_OPEN_FOR="50")

    assert {
        "timeout.connect": (2.0, "r.toml:2"),
        "timeout.read": (20.0, "r.toml:7"),
        "timeout.write": (15.0, "r.toml:7"),
        "timeout.pool": (1.0, "r.toml:12"),
        "timeout.total": (30.0, 'profile "external-api"'),
        "retry.max_attempts": (2, "r.toml:3"),
        "breaker.open_for": (50.0, "RESILIENCE_BREAKER_OPEN_FOR"),
    } == sources(plan, "pay", "external-api")


def test_what_stands_in_defaults_beats_a_profile_found_by_itself() -> None:
    """Somebody wrote the one, nobody chose the other."""
    plan = plan_of(THREE_LEVELS)

    values = sources(plan, "shop", "internal-api")

    assert (8.0, "r.toml:2") == values["timeout.read"]
    assert (10.0, 'profile "internal-api"') == values["timeout.total"]


def test_a_variable_has_the_last_word() -> None:
    """Over every service."""
    plan = plan_of(THREE_LEVELS, TIMEOUT_READ="5")

    assert ("pay", "external-api", 5.0) == found(plan, "https://pay.example.com/")
    assert ("shop", "internal-api", 5.0) == found(plan, "http://shop.internal/")
    assert (None, "health-check", 5.0) == found(plan, "http://x/health")


def test_a_total_follows_a_read_timeout_that_somebody_wrote() -> None:
    """And it says so."""
    plan = plan_of(TIMEOUT_READ="50")

    total = plan.explained(None, "internal-api")["timeout.total"]

    assert 50.0 == total.value
    assert "raised for timeout.read = 50: one attempt must fit into the call" == (
        total.reason
    )


def test_settings_are_built_once() -> None:
    """For each service and profile."""
    plan = plan_of(THREE_LEVELS)
    to = destination("https://pay.example.com/")

    assert plan.find(to).own is plan.find(to).own
    assert dataclasses.is_dataclass(plan.find(to).own)


def test_caches_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many hosts and paths there are."""
    monkeypatch.setattr("resilience_instrument.config.plan._CACHE", 4)
    plan = plan_of(THREE_LEVELS)

    for number in range(10):
        plan.find(destination(f"https://h{number}.example.com/{number}"))

    assert (2, 2) == (len(plan._origins), len(plan._health))


def test_a_contradiction_across_levels_is_found_once() -> None:
    """With the service that it concerns, however many profiles show it."""
    document = parse(
        "[defaults.timeout]\ntotal = 5\n[services.pay]\nmatch = 'pay'\n"
        "timeout.read = 6\n",
        "r.toml",
    )

    findings = Plan(read_environment({})[0], document).check()

    said = (
        "is more than timeout.total = 5 (r.toml:2): one attempt must fit into the call"
    )
    assert [Finding("r.toml:5", "timeout.read = 6", said)] == findings


def test_a_fallback_is_read_whole(tmp_path: Any) -> None:
    """An empty table switches a kind on; a file's content is taken at once."""
    (tmp_path / "body.json").write_bytes(b"[]")
    text = (
        '[services.a]\nmatch = "a"\n[services.a.fallback]\ncache = {}\n'
        'service = "https://backup.example.com/v2/"\ncall = "shop.prices:last"\n'
        'static = { status = 203, headers = { A = "b" }, file = "body.json" }\n'
    )
    plan = Plan(read_environment({})[0], parse(text, str(tmp_path / "r.toml")))

    fallback = plan.settings("a", "internal-api").fallback

    assert [] == plan.check()
    assert fallback is not None
    assert (300.0, 128, 262_144) == dataclasses.astuple(fallback.cache or fallback)
    assert "https://backup.example.com/v2" == fallback.service
    assert "shop.prices:last" == fallback.call
    assert (203, (("A", "b"),), b"[]") == dataclasses.astuple(
        fallback.static or fallback
    )
    assert plan.settings(None, "internal-api").fallback is None


def test_an_answer_that_is_too_long_is_refused(tmp_path: Any) -> None:
    """It would lie in the memory of every process."""
    (tmp_path / "body.json").write_bytes(b"x" * 1_048_577)
    text = '[defaults]\nfallback.static.file = "body.json"\n'
    plan = Plan(read_environment({})[0], parse(text, str(tmp_path / "r.toml")))

    (finding,) = plan.check()

    assert "is longer than 1048576 bytes" == finding.message
    (tmp_path / "body.json").write_bytes(b"x" * 1_048_576)
    assert [] == plan.check()


def test_a_contradiction_of_a_profiles_section_is_found() -> None:
    """Somebody wrote it, whoever gets it."""
    document = parse(
        "[defaults.timeout]\ntotal = 30\n[profiles.upload]\ntimeout.read = 40\n",
        "r.toml",
    )

    (finding,) = Plan(read_environment({})[0], document).check()

    assert ("r.toml:4", "timeout.read = 40") == finding[:2]
