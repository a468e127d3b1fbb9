"""`resilience bundle export`: every format from what is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from bundle import monitoring, sources
from resilience_instrument.bundle import contents, settings
from resilience_instrument.cli import admin

if TYPE_CHECKING:
    from pathlib import Path

RULES = "rules/resilience.rules.yml"
OPERATOR = "kubernetes/prometheusrule.yaml"
CONFIGMAP = "kubernetes/dashboard-configmap.yaml"
DASHBOARD = "grafana/dashboards/resilience-api-health.json"


def export(directory: Path, *options: str) -> int:
    """Run the command."""
    return admin.main(["bundle", "export", str(directory), *options])


def document(path: Path) -> Any:
    """Return what a YAML file holds."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def every_rule(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rules of all groups."""
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rules", {RULES, "alertmanager.yml", "runbooks/README.md"}),
        ("operator", {OPERATOR}),
        ("configmap", {CONFIGMAP}),
        (
            "provisioning",
            {DASHBOARD, "grafana/provisioning/dashboards/resilience.yaml"},
        ),
        ("all", {RULES, OPERATOR, CONFIGMAP, DASHBOARD}),
    ],
)
def test_format_writes_its_files_and_names_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, expected: set[str]
) -> None:
    """Each format is there, and what was written is said."""
    code = export(tmp_path, "--format", name)

    written = {
        path.relative_to(tmp_path).as_posix()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    said = capsys.readouterr().out
    assert 0 == code
    assert expected <= written
    assert [] == [path for path in written if str(tmp_path / path) not in said]


def test_untouched_export_is_what_the_repository_has(tmp_path: Path) -> None:
    """Without settings the rules and the dashboard are exported as they are."""
    export(tmp_path)

    assert sources.RULES.read_bytes() == (tmp_path / RULES).read_bytes()
    assert sources.dashboard() == json.loads((tmp_path / DASHBOARD).read_text())


def test_operator_and_sidecar_get_the_same_as_everybody(tmp_path: Path) -> None:
    """Both Kubernetes resources wrap rules and dashboard without a change."""
    export(tmp_path, "--resource-label", "release=prometheus")

    rule, config = document(tmp_path / OPERATOR), document(tmp_path / CONFIGMAP)
    assert ("monitoring.coreos.com/v1", "PrometheusRule") == (
        rule["apiVersion"],
        rule["kind"],
    )
    assert document(tmp_path / RULES)["groups"] == rule["spec"]["groups"]
    assert ("v1", "ConfigMap") == (config["apiVersion"], config["kind"])
    assert "1" == config["metadata"]["labels"]["grafana_dashboard"]
    assert sources.dashboard() == json.loads(
        config["data"]["resilience-api-health.json"]
    )
    for resource in (rule, config):
        assert "prometheus" == resource["metadata"]["labels"]["release"]


def test_settings_are_baked_in(tmp_path: Path) -> None:
    """Addresses, objective and labels are in every rule that they concern."""
    export(
        tmp_path,
        "--grafana-url=https://grafana.test/",
        "--runbook-url=https://runbooks.test",
        "--slo=99.5%",
        "--label=team=payments",
        "--label=tier=1",
    )

    for rule in every_rule(document(tmp_path / RULES)["groups"]):
        if "alert" not in rule:
            continue
        link = rule["annotations"]["dashboard_url"]
        assert link.startswith("https://grafana.test/d/resilience-api-health?")
        assert rule["annotations"]["runbook_url"].startswith("https://runbooks.test/")
        assert {"team": "payments", "tier": "1"}.items() <= rule["labels"].items()
        if rule["alert"] == "ApiErrorBudgetBurn":
            assert 2 == rule["expr"].count("* 0.005\n")
    (panel,) = [
        each
        for each in json.loads((tmp_path / DASHBOARD).read_text())["panels"]
        if each["title"] == "Failed calls"
    ]
    assert 0.072 == panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1]["value"]
    assert "99.5 %" in panel["description"]
    assert "example.com" not in (tmp_path / RULES).read_text()


def test_baked_rules_are_accepted_by_promtool(tmp_path: Path) -> None:
    """What is exported with settings is a rule file as good as the original."""
    export(tmp_path, "--slo=99.99", "--label=team=a", "--grafana-url=https://g.test")

    done = subprocess.run(
        [monitoring.find("promtool"), "check", "rules", tmp_path / RULES],
        capture_output=True,
        check=False,
    )

    assert 0 == done.returncode, done.stderr


def test_placeholders_are_pointed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody ships links that lead nowhere without being told."""
    export(tmp_path, "--format=operator", "--grafana-url=https://grafana.test")

    said = capsys.readouterr().out
    assert "--runbook-url" in said
    assert "--grafana-url" not in said


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--slo=100", "no objective"),
        ("--slo=93", "no objective"),
        ("--slo=much", "no objective"),
        ("--slo=NaN", "no objective"),
        ("--grafana-url=ftp://g.test", "no http or https address"),
        ("--runbook-url=https://a b", "no http or https address"),
        ("--label=team", "say name=value"),
        ("--label=a-b=c", "say name=value"),
        ("--label=severity=low", "set by the rules themselves"),
        ("--resource-label=x", "say name=value"),
    ],
)
def test_setting_that_cannot_be_used_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, reason: str
) -> None:
    """The message says what is wrong, and nothing is written."""
    try:
        code: object = export(tmp_path, option)
    except SystemExit as stop:
        code = stop.code

    assert code in {1, 2}
    assert reason in capsys.readouterr().err
    assert [] == list(tmp_path.iterdir())


def test_directory_that_cannot_be_written_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system's own words are said, without a traceback."""
    (tmp_path / "rules").write_text("a file is in the way", encoding="utf-8")

    assert 1 == export(tmp_path, "--format=rules")
    assert "rules" in capsys.readouterr().err


def test_text_of_the_settings_is_in_the_files_once_per_place() -> None:
    """What the export replaces is what the sources contain."""
    text = contents.rules()

    assert 8 == text.count("* 0.001\n")
    assert len(sources.alerts()) == text.count("        labels:\n")
    assert len(sources.alerts()) == text.count(settings.GRAFANA_URL + "/d/")
    assert len(sources.alerts()) == text.count(f" {settings.RUNBOOK_URL}/")
    assert settings.RUNBOOK_URL in json.dumps(contents.dashboard())


def test_installed_copy_brings_its_own_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the wheel put its data, that is read."""
    (tmp_path / "alerts").mkdir()
    (tmp_path / "alerts" / contents.RULES_FILE).write_text("groups: []\n")
    monkeypatch.setattr(contents, "_IN_WHEEL", tmp_path)

    assert "groups: []\n" == contents.rules()


@pytest.mark.slow
def test_wheel_exports_what_the_repository_has(tmp_path: Path) -> None:
    """A copy that was installed from the wheel needs no checkout beside it."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d"]
    subprocess.run(
        [*build, tmp_path / "dist"], cwd=sources.ROOT, check=True, capture_output=True
    )
    (wheel,) = (tmp_path / "dist").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    script = (
        "import sys; from resilience_instrument.cli.admin import main; sys.exit(main())"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, "bundle", "export", tmp_path / "out"],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert sources.RULES.read_bytes() == (tmp_path / "out" / RULES).read_bytes()
    assert sources.dashboard() == json.loads((tmp_path / "out" / DASHBOARD).read_text())
    assert (tmp_path / "installed/resilience_instrument/bundle/data/alerts").is_dir()
