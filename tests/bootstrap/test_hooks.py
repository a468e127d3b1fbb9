"""The import hook: it waits, announces once, and never fails an import."""

from __future__ import annotations

import importlib
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from resilience_instrument.bootstrap import hooks

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
