"""The import hook: it waits, announces once, and never fails an import."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
import types
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from resilience_instrument.bootstrap import hooks
from resilience_instrument.integrations import _doorbell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "resilience_test_library"


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Any]]]:
    """Wait for a library of the test's own, in an interpreter left as it was."""
    found: list[tuple[str, Any]] = []
    monkeypatch.setattr(hooks, "LIBRARIES", {NAME: "irrelevant"})
    monkeypatch.setattr(
        "resilience_instrument._agent.library_imported",
        lambda library, module: found.append((library, module)),
    )
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(hooks, "_said", set())
    yield found
    sys.modules.pop(NAME, None)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a library where it can be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / f"{NAME}.py"
    path.write_text("there = True\n", encoding="utf-8")
    importlib.invalidate_caches()
    return path


@pytest.mark.usefixtures("library")
def test_an_imported_library_is_announced_when_it_is_whole(
    announced: list[tuple[str, Any]],
) -> None:
    """The agent sees the module after it was executed; its loader is the usual one."""
    hooks.install()

    module = importlib.import_module(NAME)

    assert [(NAME, module)] == announced
    assert module.there
    assert "exec_module" not in vars(module.__spec__.loader)  # type: ignore[union-attr]


@pytest.mark.usefixtures("library")
def test_a_library_that_is_there_already_is_announced_at_once(
    announced: list[tuple[str, Any]],
) -> None:
    """Another start-up file may have been quicker."""
    module = importlib.import_module(NAME)

    hooks.install()

    assert [(NAME, module)] == announced


def test_a_package_that_loads_nothing_is_announced_by_its_module(
    announced: list[tuple[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own import says nothing yet; afterwards it is announced at once."""
    package = tmp_path / NAME
    package.mkdir()
    for name in ("__init__", "client"):
        (package / f"{name}.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(hooks, "WAITED_FOR", {NAME: f"{NAME}.client"})
    importlib.invalidate_caches()
    hooks.install()

    module = importlib.import_module(NAME)
    before = list(announced)
    importlib.import_module(f"{NAME}.client")

    assert ([], [(NAME, module)]) == (before, announced)
    sys.meta_path.remove(hooks.FINDER)
    hooks.install()
    assert [(NAME, module)] * 2 == announced
    sys.modules.pop(f"{NAME}.client")


@pytest.mark.usefixtures("library")
def test_a_reloaded_library_is_announced_again(
    announced: list[tuple[str, Any]],
) -> None:
    """A reload replaces what was wrapped."""
    hooks.install()
    module = importlib.import_module(NAME)

    importlib.reload(module)

    assert 2 == len(announced)


def test_installing_twice_puts_the_finder_first_once(
    announced: list[tuple[str, Any]],
) -> None:
    """What came in front of it meanwhile is passed again."""
    hooks.install()
    sys.meta_path.insert(0, object())  # type: ignore[arg-type]

    hooks.install()

    assert hooks.FINDER is sys.meta_path[0]
    assert 1 == sys.meta_path.count(hooks.FINDER)
    assert [] == announced


@pytest.mark.usefixtures("announced")
def test_a_library_that_is_not_installed_stays_so() -> None:
    """The error is Python's own."""
    hooks.install()

    with pytest.raises(ModuleNotFoundError, match=NAME):
        importlib.import_module(NAME)


@pytest.mark.usefixtures("library", "announced")
def test_finders_of_old_times_are_passed_over() -> None:
    """One without `find_spec` cannot be asked."""
    hooks.install()
    sys.meta_path.insert(1, object())  # type: ignore[arg-type]

    assert hooks.FINDER.find_spec(NAME).name == NAME
    assert hooks.FINDER.find_spec("something_else") is None


def test_a_namespace_of_that_name_is_left_alone(
    announced: list[tuple[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory without code has nothing to govern."""
    (tmp_path / NAME).mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    hooks.install()

    importlib.import_module(NAME)

    assert 1 >= len(announced)


def test_a_library_in_an_archive_is_announced(
    announced: list[tuple[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loader is shared, so it is wrapped, and is the usual one afterwards."""
    archive = tmp_path / "app.pyz"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr(f"{NAME}.py", "there = True\n")
    monkeypatch.syspath_prepend(str(archive))
    hooks.install()

    module = importlib.import_module(NAME)

    assert [(NAME, module)] == announced
    assert "zipimporter" == type(module.__loader__).__name__
    assert "zipimporter" == type(module.__spec__.loader).__name__  # type: ignore[union-attr]


class Stubborn:
    """A loader that takes no attributes."""

    __slots__ = ("name",)

    def __init__(self) -> None:
        self.name = NAME

    def create_module(self, spec: object) -> None:
        """Leave it to Python."""

    def exec_module(self, module: Any) -> None:
        """Do what there is to do."""
        module.__spec__ = None
        module.there = True


class Odd:
    """Finds the library with a loader of its own."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def find_spec(self, name: str, *_: Any) -> Any:
        """Find what the test is about."""
        if name != NAME:
            return None
        return importlib.machinery.ModuleSpec(name, self.loader)


def test_a_loader_that_takes_no_attributes_is_wrapped(
    announced: list[tuple[str, Any]],
) -> None:
    """Whatever the loader is, the module is announced."""
    hooks.install()
    sys.meta_path.insert(1, Odd(Stubborn()))

    importlib.import_module(NAME)

    assert [NAME] == [name for name, _ in announced]


@pytest.mark.usefixtures("announced")
def test_a_loader_without_a_step_to_extend_is_left_alone() -> None:
    """An import that would have failed fails as without us."""
    hooks.install()
    loader = object()
    sys.meta_path.insert(1, Odd(loader))

    assert hooks.FINDER.find_spec(NAME).loader is loader


@pytest.mark.usefixtures("library", "announced")
def test_a_fault_of_the_agent_does_not_fail_the_import(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said once; without stderr it is not said."""

    def fail(*_: object) -> None:
        message = "odd"
        raise ValueError(message)

    monkeypatch.setattr("resilience_instrument._agent.library_imported", fail)
    hooks.install()

    module = importlib.import_module(NAME)
    importlib.reload(module)

    line = f"resilience-instrument: {NAME} is not governed: ValueError: odd\n"
    assert line == capsys.readouterr().err
    monkeypatch.setattr(hooks, "_said", set())
    monkeypatch.setattr(sys, "stderr", None)
    hooks.announce(NAME, module)


def test_a_loader_whose_spec_is_gone_is_no_obstacle(
    announced: list[tuple[str, Any]],
) -> None:
    """A wrapped loader answers for the one inside."""
    wrapped = hooks._Wrapped(Stubborn(), NAME)
    module = type(sys)(NAME)
    module.__spec__ = None

    wrapped.exec_module(module)

    assert NAME == wrapped.name
    assert [(NAME, module)] == announced


# -- before the first call -------------------------------------------------------


@pytest.fixture
def asleep(
    announced: list[tuple[str, Any]], library: Path, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, Any]]:
    """Be in a process that has not loaded the agent, and has nothing configured."""
    library.write_text("class Client:\n    def send(self):\n        return 'sent'\n")
    importlib.invalidate_caches()
    for name in [name for name in os.environ if name.startswith("RESILIENCE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(hooks, "_AGENT", "not.loaded")
    monkeypatch.setattr(hooks._Sleep, "watches_forks", True)
    monkeypatch.setattr(hooks._Sleep, "disabled", None)
    monkeypatch.setattr(_doorbell, "TEST_TOOLS", frozenset())
    monkeypatch.setattr(_doorbell, "waiting", {})
    monkeypatch.setattr(_doorbell, "_bells", {})
    monkeypatch.setitem(_doorbell.ENTRANCES, NAME, ("Client.send",))
    hooks.install()
    return announced


def test_where_nothing_is_configured_the_first_call_wakes_the_agent(
    asleep: list[tuple[str, Any]],
) -> None:
    """The import does not: many programs never call what they import."""
    module = importlib.import_module(NAME)
    before = list(asleep)

    answer = module.Client().send()

    assert ([], "sent") == (before, answer)
    assert [(NAME, module)] == asleep
    assert {} == _doorbell.waiting


@pytest.mark.parametrize("why", ["settings", "others", "loaded"])
def test_what_the_agent_has_to_do_at_once_is_done_at_once(
    asleep: list[tuple[str, Any]],
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Settings are checked at the start, and who joins others serves with them."""
    if why == "settings":
        monkeypatch.setenv("RESILIENCE_TIMEOUT_READ", "soon")
    elif why == "others":
        monkeypatch.setenv("RESILIENCE_RUN_DIR", str(tmp_path))
        monkeypatch.setenv("RESILIENCE_RUN_ID", "7-1")
        (tmp_path / "7-1-abc").mkdir()
    else:
        monkeypatch.setattr(hooks, "_AGENT", "sys")

    module = importlib.import_module(NAME)

    assert [(NAME, module)] == asleep


@pytest.mark.parametrize("disabled", [False, True])
def test_settings_that_can_be_used_are_no_reason_to_wake(
    asleep: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch, *, disabled: bool
) -> None:
    """They are read once; a library that they leave out gets no doorbell."""
    monkeypatch.setenv("RESILIENCE_TIMEOUT_READ", "5")
    if disabled:
        monkeypatch.setenv("RESILIENCE_DISABLE", NAME)

    module = importlib.import_module(NAME)
    importlib.reload(module)

    assert [] == asleep
    assert disabled is ("__resilience__" not in vars(module.Client.send))
    hooks.wake()
    assert [(NAME, module)] == asleep


def test_who_is_told_at_once_wakes_the_others(
    asleep: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries that wait are told in the order in which they were imported."""
    module = importlib.import_module(NAME)
    monkeypatch.setattr(hooks, "LIBRARIES", {NAME: "", "second": ""})
    second = types.ModuleType("second")

    hooks.announce("second", second)

    assert [(NAME, module), ("second", second)] == asleep


def test_a_test_tool_wakes_the_agent(
    asleep: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It must find the wrappers that it replaces."""
    module = importlib.import_module(NAME)
    monkeypatch.setattr(hooks, "TEST_TOOLS", frozenset({"resilience_test_tool"}))
    (tmp_path / "resilience_test_tool.py").write_text("")
    importlib.invalidate_caches()

    importlib.import_module("resilience_test_tool")

    del sys.modules["resilience_test_tool"]
    assert [(NAME, module)] == asleep


def test_a_library_that_cannot_wait_is_told_at_once(
    asleep: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong with the doorbells."""

    def fail(*_: object) -> None:
        message = "odd"
        raise ValueError(message)

    monkeypatch.setattr(_doorbell, "wait", fail)

    module = importlib.import_module(NAME)

    assert [(NAME, module)] == asleep


def test_all_who_call_first_wait_until_the_agent_is_there(
    asleep: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them passes ungoverned, and the agent is told once."""
    module = importlib.import_module(NAME)
    client = module.Client

    def slowly(library: str, module: Any) -> None:
        time.sleep(0.05)
        asleep.append((library, module))
        (bell,) = _doorbell.at(client, "send")
        bell.answer(lambda _: "governed")

    monkeypatch.setattr("resilience_instrument._agent.library_imported", slowly)
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(client().send()))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ["governed"] * 8 == answers
    assert 1 == len(asleep)


def test_a_fork_waits_until_the_agent_is_loaded(
    asleep: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child could not go on with what another thread of its parent does."""
    registered: dict[str, Any] = {}
    monkeypatch.setattr(os, "register_at_fork", registered.update)
    monkeypatch.setattr(hooks._Sleep, "watches_forks", False)

    importlib.import_module(NAME)
    registered["before"]()
    taken = hooks._Sleep.lock.acquire(blocking=False)
    thread = threading.Thread(target=hooks.wake)
    thread.start()
    told = list(asleep)
    hooks._Sleep.lock.release()
    registered["after_in_parent"]()
    thread.join()

    assert ([], True) == (told, taken)
    assert 1 == len(asleep)


def test_a_fork_does_not_wait_for_ever(
    asleep: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child then has a lock of its own."""
    importlib.import_module(NAME)
    before = hooks._Sleep.lock
    monkeypatch.setattr(hooks._Sleep, "lock", before)
    monkeypatch.setattr(hooks, "_PATIENCE", 0.01)
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with before:
            holding.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait(30)

    hooks._Sleep.hold()
    hooks._Sleep.go_on()

    assert before is not hooks._Sleep.lock
    done.set()
    thread.join()
    assert [] == asleep


def test_where_nothing_ever_waited_there_is_nobody_to_wake(
    announced: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes the first call wait is not even loaded."""
    monkeypatch.delitem(sys.modules, _doorbell.__name__)

    hooks.wake()

    assert [] == announced
    assert _doorbell.__name__ not in sys.modules
