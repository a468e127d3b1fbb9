"""The directory of a command: private, found by its processes, removed at the end."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resilience_instrument import activation
from resilience_instrument.signals import rundir

if TYPE_CHECKING:
    from resilience_instrument.signals.rundir import RunDirectory

HOUR = 3600


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a process of this command."""
    return {
        "RESILIENCE_RUN_DIR": str(tmp_path),
        "RESILIENCE_RUN_ID": activation.run_id(),
    }


def opened(environ: dict[str, str]) -> RunDirectory:
    """Return the directory, which can be had."""
    found = rundir.open_directory(environ, "v1")
    assert found is not None
    return found


def test_it_is_private_and_named_after_command_and_format(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """Nobody else looks in, and other versions of the agent have their own."""
    found = opened(environ)

    assert tmp_path / f"{environ['RESILIENCE_RUN_ID']}-v1" == Path(found.path)
    assert 0o40700 == Path(found.path).stat().st_mode
    assert rundir.is_under_way(environ, "v1")
    assert not rundir.is_under_way(environ, "v2")
    assert not rundir.is_under_way({}, "v1")


def test_without_a_command_there_is_none(tmp_path: Path) -> None:
    """Nobody else would find it."""
    environ = {"RESILIENCE_RUN_DIR": str(tmp_path)}

    assert rundir.open_directory(environ, "v1") is None
    rundir.remove_run(environ)


def test_unless_told_it_lies_in_memory_or_else_on_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a directory of this user, if the first place is not to be had."""
    monkeypatch.setattr(activation, "_SHARED_MEMORY", "/nowhere")
    environ = {"RESILIENCE_RUN_ID": "1-2", "TMPDIR": str(tmp_path)}

    assert f"{tmp_path}/resilience-{os.geteuid()}/1-2-v1" == opened(environ).path


@pytest.mark.parametrize("fault", ["open", "link", "file", "foreign", "read-only"])
def test_a_place_that_is_not_private_is_not_used(
    environ: dict[str, str],
    tmp_path: Path,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody else could have put it there."""
    path = tmp_path / f"{environ['RESILIENCE_RUN_ID']}-v1"
    if fault == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        path.symlink_to(tmp_path / "elsewhere")
    elif fault == "file":
        path.touch(mode=0o700)
    else:
        path.mkdir(mode=0o700)
    if fault == "open":
        path.chmod(0o750)
    elif fault == "foreign":
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
    elif fault == "read-only":
        monkeypatch.setattr(os, "access", lambda *_: False)

    assert rundir.open_directory(environ, "v1") is None


def test_the_first_process_removes_it_unless_somebody_counts_there(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """Its own file does not keep it; that of another process does."""
    own, other = opened(environ), opened(environ)
    own.join()
    live = Path(other.join())
    another = live.with_name("1-" + live.name)
    live.rename(another)
    rundir.remove_run(environ)
    assert another.exists()

    other.leave_to_parent()
    (tmp_path / "1-2-v1").mkdir()
    rundir.remove_run(environ)

    assert ["1-2-v1"] == [path.name for path in tmp_path.iterdir()]


def test_what_commands_left_is_swept_when_it_is_old_and_nobodys(
    environ: dict[str, str], tmp_path: Path
) -> None:
    """Fresh ones, those that run, and what is not ours stay."""
    old = time.time() - HOUR
    kept = ["999999999-1-v1-fresh", "notes", f"{activation.run_id()}-v0"]
    for name in [*kept, "999999999-1-v1", "1-77-v1"]:
        path = tmp_path / name
        path.mkdir()
        (path / "base").touch()
        if "fresh" not in name:
            os.utime(path, (old, old))
    (tmp_path / "12-34-file").touch()

    found = opened(environ)

    left = {path.name for path in tmp_path.iterdir()}
    assert {*kept, "12-34-file", Path(found.path).name} == left


@pytest.mark.parametrize("run", ["", "x-1", "1", "1-", "99999999999999999999-1"])
def test_a_name_that_is_no_run_is_never_over(run: str) -> None:
    """Nothing is removed on a guess."""
    assert not activation.is_over(run)


def test_a_run_is_over_when_its_process_is_another() -> None:
    """Process ids are used again; when it started is not."""
    assert not activation.is_over(activation.run_id())
    assert activation.is_over(f"{os.getpid()}-1")
    assert activation.is_over("999999999-1")


def test_a_system_that_does_not_say_when_a_process_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Gets a word of chance, and nothing of it is taken for over."""
    monkeypatch.setattr(activation, "_started", lambda _: "")

    one, two = activation.run_id(), activation.run_id()

    assert one != two
    assert not activation.is_over(one)


def test_a_process_that_is_gone_has_no_start() -> None:
    """As where there is no `/proc`."""
    assert "" == activation._started(999999999)


def test_files_that_vanish_are_no_fault(tmp_path: Path) -> None:
    """Somebody else removes the same at the same moment."""
    assert not rundir._is_locked(str(tmp_path / "gone"))
    rundir._remove(str(tmp_path / "gone"))
    assert [] == list(rundir._runs(str(tmp_path / "gone")))


def test_a_descriptor_that_somebody_closed_is_no_fault(environ: dict[str, str]) -> None:
    """Daemons close all that they have."""
    found = opened(environ)
    found.join()
    os.close(found._held[0])

    found.leave_to_parent()

    assert [] == found._held
