"""What governs a call where there is a configuration."""

from __future__ import annotations

from typing import Any

import pytest

from fakes import FakeClock, open_circuit
from resilience_instrument.config.document import parse
from resilience_instrument.config.load import agent_settings, read_environment
from resilience_instrument.config.match import Destination, destination
from resilience_instrument.config.plan import Plan
from resilience_instrument.registry import Registry

SERVICES = """\
[services.pay]
match = ["https://pay.example.com", "pay.internal"]
endpoints = ["/orders/{id}"]

[services.files]
match = "pay.example.com/files/*"
profile = "batch"

[services.orders-db]
match = "postgresql://db.internal/orders"
"""
PAY = Destination("https", "pay.example.com", None, "/orders/1")


def make(text: str = SERVICES, limit: int = 1024, **environ: str) -> Registry:
    """Return a registry with the plan of a file and variables."""
    variables = {f"RESILIENCE_{name}": value for name, value in environ.items()}
    layer, _ = read_environment(variables)
    plan = Plan(layer, parse(text, "r.toml"))
    assert [] == plan.check()
    settings = agent_settings(plan)
    registry = Registry(settings.defaults, FakeClock(), limit)
    registry.adopt(settings)
    return registry


def find(registry: Registry, url: str, **facts: Any) -> tuple[str, str]:
    """Return service and profile of a call."""
    to = destination(url)
    policies = registry.policies(to.host, to=to, **facts)
    return policies.service, policies.settings.profile


def test_a_call_belongs_to_the_service_that_it_fits() -> None:
    """By its path too; else to its host."""
    registry = make()

    assert ("pay", "external-api") == find(registry, "https://pay.example.com/orders/1")
    assert ("pay", "internal-api") == find(registry, "http://pay.internal/")
    assert ("files", "batch") == find(registry, "https://pay.example.com/files/1")
    assert ("a.example.com", "external-api") == find(registry, "https://a.example.com/")


def test_a_database_is_found_by_its_name() -> None:
    """Rooms that give no destination give a name that is one."""
    registry = make(limit=2)

    orders = registry.policies("postgresql://db.internal/orders")
    other = registry.policies("postgresql://db.internal/stock")
    registry.policies("mysql://a/b")
    registry.policies("mysql://a/b")

    assert ("orders-db", "database") == (orders.service, orders.settings.profile)
    assert "postgresql://db.internal/stock" == other.service
    assert 1 == len(registry._destinations)


def test_calls_of_one_service_share_its_circuit() -> None:
    """Whatever their profile: there is one service."""
    registry = make()

    plain = registry.policies("pay", to=PAY)
    upload = registry.policies("pay", to=PAY, upload=True)
    health = registry.policies("pay", to=PAY._replace(path="/health"))

    assert (30.0, 300.0, 3.0) == tuple(
        each.settings.timeout.read for each in (plain, upload, health)
    )
    for view in (upload, health):
        assert plain.breaker is view.breaker
        assert plain.budget is view.budget
    assert upload is registry.policies("pay", to=PAY, upload=True)
    assert [plain] == registry.known()


def test_a_bulkhead_is_shared_too() -> None:
    """Ten places are ten, not ten for each kind of call."""
    registry = make(BULKHEAD_LIMIT="10", THROTTLE="1")

    plain = registry.policies("pay", to=PAY)
    health = registry.policies("pay", to=PAY._replace(path="/health"))

    assert plain.bulkhead is health.bulkhead is not None
    assert plain.throttle is health.throttle is not None
    assert plain.gated
    assert health.gated


def test_a_route_has_a_circuit_of_its_own() -> None:
    """Also where the service has a name."""
    registry = make()

    direct = registry.policies("x", to=PAY)
    proxied = registry.policies("x", "http://proxy", to=PAY)

    assert direct.breaker is not proxied.breaker
    assert "pay" == direct.service == proxied.service


def test_a_policy_can_be_left_out_of_a_library() -> None:
    """Of that one only."""
    left_out = "a:timeout,b:retry,c:breaker,d:fallback"
    registry = make("[defaults.fallback.static]\n", DISABLE=left_out)

    def of(library: str) -> Any:
        return registry.policies("x", to=PAY, library=library)

    plain = of("requests")
    assert of("a").settings.timeout.read is None
    assert of("a").settings.timeout.total is None
    assert 1 == of("b").settings.retry.max_attempts
    assert ("disabled", "enforce") == (of("c").breaker.mode, plain.breaker.mode)
    assert of("d").settings.fallback is None
    assert (30.0, 3) == (
        plain.settings.timeout.read,
        plain.settings.retry.max_attempts,
    )
    assert plain.settings.fallback is not None
    open_circuit(plain.breaker, 1000.0)
    assert "closed" == of("c").breaker.state(1000.0)


def test_a_library_that_is_disabled_while_it_runs_passes_untouched() -> None:
    """Its functions are wrapped already: the wrapper lets its calls through."""
    registry = make(DISABLE="httpx")

    assert not registry.policies("x", to=PAY, library="httpx").settings.enabled
    assert registry.policies("x", to=PAY, library="requests").settings.enabled


@pytest.mark.parametrize(
    ("headers", "is_upload"),
    [
        ({}, False),
        ({"Content-Length": "1048576"}, True),
        ({"Content-Length": "5"}, False),
        ({"Content-Length": "many"}, False),
        ({"Content-Type": "multipart/form-data; boundary=x"}, True),
    ],
)
def test_headers_say_what_an_upload_is(
    headers: dict[str, str],
    is_upload: bool,
) -> None:
    """By the rules of the configuration; without one nothing is."""
    registry = make()
    plain = Registry(registry.settings, FakeClock())

    assert is_upload == registry.is_upload(headers)
    assert not plain.is_upload(headers)


def test_a_late_thread_does_not_bring_an_old_plan_back() -> None:
    """It began before the change and goes on by what it finds."""
    registry = make()
    old = registry.policies("x", to=PAY)
    newer = make("[services.pay]\nmatch = 'pay.example.com'\ntimeout.read = 9\n")
    assert newer._whole is not None
    registry.adopt(newer._whole)

    new = registry.policies("x", to=PAY)
    late = registry._renewed(new, ("pay", None), old.settings, old.plan)  # type: ignore[arg-type]

    assert new is late
    assert 9.0 == new.settings.timeout.read
    assert old.breaker is new.breaker


def test_a_service_that_nobody_keeps_is_renewed_all_the_same() -> None:
    """Where every circuit is open there is no room for more."""
    registry = make("[agent]\n", limit=1)
    open_circuit(registry.policies("a", to=Destination("http", "a")).breaker, 1000.0)
    guest = registry.policies("b", to=Destination("http", "b"))
    newer = make("[defaults]\ntimeout.read = 9\n")
    whole = newer._whole
    assert whole is not None
    registry.adopt(whole)

    settings = whole.plan.find(Destination("http", "b")).settings
    renewed = registry._renewed(guest, ("b", None), settings, whole.plan)

    assert 9.0 == renewed.settings.timeout.read
    assert ["a"] == [each.service for each in registry.known()]


def test_a_child_has_no_view_of_its_parents() -> None:
    """Their locks may be held for ever."""
    registry = make()
    view = registry.policies("x", to=PAY, upload=True)

    registry.renew_locks()

    assert view is not registry.policies("x", to=PAY, upload=True)


def test_what_is_slow_for_one_profile_is_not_for_another() -> None:
    """A view has its own ceiling and the service's measurements."""
    registry = make(ADAPTIVE_MODE="enforce")
    plain = registry.policies("x", to=PAY)
    upload = registry.policies("x", to=PAY, upload=True)

    assert plain.latencies is upload.latencies
    assert plain.adaptive is not None
    assert upload.adaptive is not None
    assert plain.adaptive[0] is not upload.adaptive[0]


def test_a_name_that_leads_nowhere_is_a_service_of_its_own() -> None:
    """No pattern fits it, and it is governed like any other."""
    registry = make()

    policies = registry.policies("http://[broken")

    assert "http://[broken" == policies.service
    assert policies is registry.policies("http://[broken")
