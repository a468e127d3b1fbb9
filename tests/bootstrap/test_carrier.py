"""The carriers: they start the agent only where it was asked for, and last."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from resilience_instrument import activation
from resilience_instrument.bootstrap import carrier, hooks

if TYPE_CHECKING:
    from pathlib import Path

IS_ACTIVE = (
    "import sys; print(any(type(f).__module__.startswith('resilience')"
    " for f in sys.meta_path))"
)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Note when the hooks would be installed, in an environment without us."""
    for name in [name for name in os.environ if name.startswith("RESILIENCE_")]:
        monkeypatch.delenv(name)
    found: list[bool] = []
    monkeypatch.setattr(hooks, "install", lambda: found.append(True))
    return found


class Site:
    """Python's `site` while it runs start-up files."""

    def __init__(self, installed: list[bool]) -> None:
        self.order: list[str] = []
        self.installed = installed

    def execsitecustomize(self) -> None:
        """Run the `sitecustomize` of the app."""
        self.order.append(f"sitecustomize with {len(self.installed)} installed")


def environment(tmp_path: Path, **variables: str) -> dict[str, str]:
    """Return what a process below the launcher has, with the test's own on top."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("RESILIENCE_")}
    environ["PYTHONPATH"] = str(tmp_path)
    activation.ask_for(environ)
    return environ | variables


def python(environ: dict[str, str], *arguments: str) -> tuple[str, str]:
    """Run this Python and return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, done.stderr


def test_the_file_in_site_packages_waits_for_the_apps_own(
    installed: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent comes last, and leaves `site` as it found it."""
    environ: dict[str, str] = {}
    activation.ask_for(environ)
    monkeypatch.setattr(os, "environ", environ)
    site = Site(installed)
    before = site.execsitecustomize
    monkeypatch.setitem(sys.modules, "site", site)

    carrier.start()
    assert [] == installed
    site.execsitecustomize()

    assert ["sitecustomize with 0 installed"] == site.order
    assert [True] == installed
    assert before == site.execsitecustomize


def test_without_that_step_of_python_the_agent_starts_at_once(
    installed: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a private name of `site`."""
    environ: dict[str, str] = {}
    activation.ask_for(environ)
    monkeypatch.setattr(os, "environ", environ)
    monkeypatch.setitem(sys.modules, "site", object())

    carrier.start()

    assert [True] == installed


@pytest.mark.parametrize(
    "odd",
    [
        {activation.ACTIVE: "0"},
        {activation.PREFIX: "/somewhere/else"},
        {activation.PYTHON: "2.7"},
        {"RESILIENCE_ENABLED": "off"},
    ],
    ids=lambda odd: next(iter(odd)),
)
def test_where_it_was_not_asked_for_nothing_starts(
    installed: list[bool], monkeypatch: pytest.MonkeyPatch, odd: dict[str, str]
) -> None:
    """Another environment, another Python, or the switch."""
    environ: dict[str, str] = {}
    activation.ask_for(environ)
    monkeypatch.setattr(os, "environ", environ | odd)

    carrier.start()

    assert [] == installed


@pytest.mark.usefixtures("installed")
def test_auto_starts_without_a_launcher(
    installed: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one line for what no launcher reaches; the switch holds for it too."""
    auto = importlib.import_module("resilience_instrument.auto")
    monkeypatch.setenv("RESILIENCE_ENABLED", "0")
    importlib.reload(auto)
    assert len(installed) <= 1
    monkeypatch.delenv("RESILIENCE_ENABLED")
    before = len(installed)

    importlib.reload(auto)

    assert before + 1 == len(installed)


@pytest.mark.parametrize("value", ["0", "false", " OFF ", "no"])
def test_the_switch_has_the_usual_words(value: str) -> None:
    """Whoever is in a hurry finds one that works."""
    assert activation.is_off({"RESILIENCE_ENABLED": value})
    assert not activation.is_off({})
    assert not activation.is_off({"RESILIENCE_ENABLED": "1"})


def test_what_only_says_that_there_is_an_agent_is_no_setting() -> None:
    """Everything else of ours is, unless it is empty."""
    environ: dict[str, str] = {"PATH": "/bin", "RESILIENCE_ENABLED": "1"}
    activation.ask_for(environ)
    environ[activation.RUN_DIR] = "/somewhere"
    environ["RESILIENCE_PROFILE"] = ""

    assert not activation.is_configured(environ)
    assert activation.is_configured({**environ, "RESILIENCE_PROFIL": "typing error"})


def test_a_command_has_begun_when_it_has_a_directory(tmp_path: Path) -> None:
    """Of its own: others may use the same place."""
    environ = {activation.RUN_ID: "7-1", activation.RUN_DIR: str(tmp_path)}
    (tmp_path / "7-11-v1").mkdir()
    before = activation.has_begun(environ)
    (tmp_path / "7-1-v1").mkdir()

    assert (False, True) == (before, activation.has_begun(environ))
    assert not activation.has_begun({activation.RUN_DIR: str(tmp_path)})
    assert not activation.has_begun({**environ, activation.RUN_DIR: "/no/such"})


def test_directories_lie_in_memory_or_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each user has a place of their own; where there are no locks there is none."""
    own = f"resilience-{os.geteuid()}"
    places = [f"/dev/shm/{own}", f"/t/{own}"]

    assert places == activation.bases({"TMPDIR": "/t"})
    monkeypatch.setattr(sys, "platform", "win32")
    assert [] == activation.bases({})


def test_an_environment_is_known_by_any_path(tmp_path: Path) -> None:
    """A link to it is it; what is not there is not."""
    link = tmp_path / "link"
    link.symlink_to(sys.prefix)

    assert activation.is_home(str(link))
    assert not activation.is_home(str(tmp_path))
    assert not activation.is_home("/somewhere/else")


def test_the_path_of_the_app_stays_behind_ours() -> None:
    """Once, however often it is asked for; an app's own empty entry is its own."""
    environ = {"PYTHONPATH": f"/x{os.pathsep}"}

    activation.ask_for(environ)
    activation.ask_for(environ)

    assert os.pathsep.join([activation.BOOT, "/x", ""]) == environ["PYTHONPATH"]
    bare: dict[str, str] = {}
    activation.ask_for(bare)
    assert activation.BOOT == bare["PYTHONPATH"]


@pytest.mark.slow
def test_a_process_below_the_launcher_is_governed(tmp_path: Path) -> None:
    """And has no trace of us on its path."""
    script = f"{IS_ACTIVE}; print({activation.BOOT!r} in sys.path)"

    assert ("True\nFalse\n", "") == python(environment(tmp_path), "-c", script)


@pytest.mark.slow
def test_the_sitecustomize_of_the_app_runs_once_and_first(tmp_path: Path) -> None:
    """As without us, and it is the one that programs find."""
    app = tmp_path / "sitecustomize.py"
    app.write_text(f"{IS_ACTIVE}\n", encoding="utf-8")
    script = "import sitecustomize; print(sitecustomize.__file__)"

    said, errors = python(environment(tmp_path), "-c", script)

    assert (f"False\n{app}\n", "") == (said, errors)


@pytest.mark.slow
def test_a_sitecustomize_that_fails_is_reported_as_without_us(tmp_path: Path) -> None:
    """The same line on stderr, and the agent is there all the same."""
    (tmp_path / "sitecustomize.py").write_text("1 / 0\n", encoding="utf-8")
    plain = {**environment(tmp_path), "PYTHONPATH": str(tmp_path)}
    del plain[activation.ACTIVE]

    _, expected = python(plain, "-c", "pass")
    said, errors = python(environment(tmp_path), "-c", IS_ACTIVE)

    assert ("True\n", expected) == (said, errors)


@pytest.mark.slow
def test_where_another_ended_the_chain_usercustomize_starts(tmp_path: Path) -> None:
    """Outside a virtual environment Python runs that one too."""
    script = (
        "import sys, runpy; sys.meta_path[:] = [f for f in sys.meta_path"
        " if not type(f).__module__.startswith('resilience')];"
        f"sys.path.insert(0, {activation.BOOT!r}); import usercustomize;"
        f"{IS_ACTIVE}"
    )

    assert ("True\n", "") == python(environment(tmp_path), "-c", script)


@pytest.mark.slow
@pytest.mark.parametrize("is_root", [True, False], ids=["root", "child"])
def test_another_environment_is_left_alone(tmp_path: Path, *, is_root: bool) -> None:
    """The process that was started says so in one line, its children nothing."""
    elsewhere = {activation.PREFIX: "/somewhere/else"}
    script = (
        "import os, sys; os.environ['RESILIENCE_LAUNCH_PID'] = str(os.getpid())"
        if is_root
        else "import os, sys"
    )
    command = f"{script}; os.execv(sys.executable, ['python', '-c', {IS_ACTIVE!r}])"

    said, errors = python(environment(tmp_path, **elsewhere), "-c", command)

    assert "False\n" == said
    expected = "it is installed in /somewhere/else, but the command runs in"
    assert [True] * is_root == [expected in line for line in errors.splitlines()]


@pytest.mark.slow
def test_a_sitecustomize_without_the_agent_does_nothing(tmp_path: Path) -> None:
    """The directory on somebody's path is no reason to start."""
    environ = environment(tmp_path)
    del environ[activation.ACTIVE]

    assert ("False\n", "") == python(environ, "-c", IS_ACTIVE)


@pytest.mark.parametrize("child", [True, False])
def test_the_first_process_tidies_up_and_no_child_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, child: bool
) -> None:
    """A forked child has inherited the step, and must leave it alone."""
    steps: list[Any] = []
    monkeypatch.setattr("atexit.register", steps.append)
    monkeypatch.setattr(hooks, "install", lambda: True)
    monkeypatch.setenv("RESILIENCE_RUN_ID", activation.run_id())
    monkeypatch.setenv("RESILIENCE_RUN_DIR", str(tmp_path))
    monkeypatch.delenv("RESILIENCE_ENABLED", raising=False)
    left = tmp_path / f"{activation.run_id()}-v1"
    left.mkdir()
    carrier.install()
    (step,) = steps
    if child:
        monkeypatch.setattr(os, "getpid", lambda: 1)

    step()

    assert child == left.exists()


def test_a_process_that_is_not_the_first_leaves_nothing_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command goes on without it."""
    steps: list[Any] = []
    monkeypatch.setattr("atexit.register", steps.append)
    monkeypatch.setattr(hooks, "install", lambda: True)
    monkeypatch.setenv("RESILIENCE_RUN_ID", "1-2")

    carrier.install()

    assert [] == steps
