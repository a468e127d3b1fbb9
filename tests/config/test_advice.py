"""Advice: what was written, can be used, and is seldom meant."""

from __future__ import annotations

import pytest

from resilience_instrument.config.advice import READS, advise, without_fallback
from resilience_instrument.config.document import parse
from resilience_instrument.config.load import read_environment
from resilience_instrument.config.plan import Plan
from resilience_instrument.config.profiles import PROFILES


def plan_of(text: str, **environ: str) -> Plan:
    """Return the plan of a file and variables, which must be good."""
    named = {f"RESILIENCE_{name}": value for name, value in environ.items()}
    layer, findings = read_environment(named)
    document = parse(text, "r.toml") if text else None
    plan = Plan(layer, document)
    assert [] == [*findings, *(document.findings if document else ()), *plan.check()]
    return plan


def said(text: str, **environ: str) -> list[str]:
    """Return the advice on a file and variables."""
    return [str(each) for each in advise(plan_of(text, **environ))]


@pytest.mark.parametrize("name", [name for name in READS if name])
def test_the_upper_end_of_a_range_is_what_the_profile_has(name: str) -> None:
    """Two places say it, and they agree."""
    assert READS[name].most == PROFILES[name].values["timeout.read"]


@pytest.mark.parametrize(
    ("match", "read", "advised"),
    [
        ("https://pay.example.com", 9, "10 to 30 are usual: answers that were"),
        ("https://pay.example.com", 10, None),
        ("https://pay.example.com", 31, "10 to 30 are usual: whoever waits"),
        ("http://10.0.0.1:8080", 2.9, "3 to 10 are usual: answers that were"),
        ("http://10.0.0.1:8080", 10, None),
        ("*.svc.cluster.local", 11, "3 to 10 are usual: whoever waits"),
        ("postgresql://db/orders", 31, "3 to 30 are usual: whoever waits"),
    ],
)
def test_a_read_timeout_is_compared_with_what_is_usual_for_the_use(
    match: str, read: float, advised: str | None
) -> None:
    """By the profile that the service gets."""
    found = said(f'[services.a]\nmatch = "{match}"\ntimeout.read = {read}\n')

    expected = (
        [] if advised is None else [f"r.toml:3: timeout.read = {read}: {advised}"]
    )
    assert expected == [
        text[: len(start)] for text, start in zip(found, expected, strict=True)
    ]


def test_a_service_of_several_uses_gets_the_widest_range() -> None:
    """One of its patterns is in the own network, one is not."""
    text = '[services.a]\nmatch = ["http://a", "https://a.example.com"]\n'

    assert [] == said(f"{text}timeout.read = 3\n")
    assert 1 == len(said(f"{text}timeout.read = 2\n"))


def test_batch_may_take_as_long_as_it_takes() -> None:
    """Only silence without an end is worth a word."""
    text = '[services.a]\nmatch = "a.example.com"\nprofile = "batch"\ntimeout.'

    assert [] == said(f'{text}total = "off"\n')
    assert [] == said(f"{text}read = 900\n")
    assert 1 == len(said(f'{text}read = "off"\n'))


def test_nobody_is_told_about_values_that_nobody_wrote() -> None:
    """Defaults and profiles have their reasons."""
    assert [] == said("")
    assert [] == said('[services.a]\nmatch = "https://a.example.com"\n')
    assert [] == said('[services.a]\nmatch = "a"\nprofile = "health-check"\n')


def test_a_value_that_several_services_share_is_mentioned_once() -> None:
    """Where it stands."""
    services = "".join(f'[services.{x}]\nmatch = "{x}.example.com"\n' for x in "abc")

    found = said(f"[defaults]\nretry.max_attempts = 9\n{services}")

    assert 1 == len(found)
    assert found[0].startswith("r.toml:2: retry.max_attempts = 9: 2 to 3 are usual")


def test_a_variable_is_named_as_one() -> None:
    """It stands in no file."""
    (found,) = said("", BREAKER_CONSECUTIVE="1")

    assert found.startswith("RESILIENCE_BREAKER_CONSECUTIVE=1: 5 to 10 are usual")


def test_a_database_may_inherit_a_fallback_that_it_does_not_use() -> None:
    """What stands in its own section was meant for it."""
    database = '[services.db]\nmatch = "postgresql://db"\n'
    http = '[services.web]\nmatch = "https://web.example.com"\n'

    assert [] == said(f"[defaults.fallback.static]\n{database}")
    place, advice = "r.toml:3: services.db.fallback", "it is for calls by HTTP"
    own = said(f'{database}fallback.service = "https://b.example.com"\n')
    assert [f"{place}: databases have no fallback, {advice}"] == own
    assert [] == without_fallback(plan_of(f"[defaults.fallback.static]\n{http}"))
    assert ["web"] == without_fallback(plan_of(database + http))
