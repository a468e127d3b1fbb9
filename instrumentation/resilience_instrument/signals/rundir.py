"""The private directory of one command: where its processes meet.

Each process that counts has a file here, and holds a lock on it as long as it
lives: the kernel lets go of it however the process ends, so nobody has to ask for
process ids, which are used again. Who holds `leader.lock` serves the metrics.
Who holds `fold.lock` may add the files of dead processes to `base`.

A process that has counted nothing loads this at its end, so it imports little.
"""

from __future__ import annotations

import os
import stat
import sys
import time

from resilience_instrument.activation import RUN_DIR, RUN_ID, bases, is_over

if sys.platform != "win32":  # pragma: no branch - the other system has no locks
    from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock

TYPE_CHECKING = False  # typing is not loaded for this
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

_PRIVATE = 0o700
_CELLS = ".cells"
# A directory younger than this may be one that is being made. Seconds.
_FRESH = 60.0

removed: set[str] = set()
"""The paths of directories that this process removed, because its command is over."""


class RunDirectory:
    """The directory of this command, and what of it this process holds.

    Args:
        path: The directory, which exists.
    """

    __slots__ = ("_held", "own", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.own = ""
        self._held: list[int] = []

    def file(self, name: str) -> str:
        """Return the path of a file here."""
        return f"{self.path}/{name}"

    def join(self) -> str:
        """Make this process's file, hold it, and return its path.

        Raises:
            OSError: It cannot be made.
        """
        name = f"{os.getpid()}-{time.monotonic_ns()}"
        # Under its final name it is locked already, so that nobody takes it for
        # the file of a process that is dead.
        hidden = self.file(f".{name}")
        self._take(hidden)
        self.own = self.file(name + _CELLS)
        os.rename(hidden, self.own)
        return self.own

    def lead(self) -> None:
        """Wait until this process is the one that serves the metrics."""
        self._take(self.file("leader.lock"))

    def folding(self) -> _Folding:
        """Hold off everybody else who reads or folds, in a `with` block."""
        return _Folding(self)

    def crowd(self) -> int:
        """Return how many processes have a file here, live or dead."""
        return sum(name.endswith(_CELLS) for name in os.listdir(self.path))

    def others(self) -> tuple[list[str], list[str]]:
        """Return the files of the other processes: of live ones, and of dead ones."""
        live: list[str] = []
        dead: list[str] = []
        for name in sorted(os.listdir(self.path)):
            path = self.file(name)
            if name.endswith(_CELLS) and path != self.own:
                (live if _is_locked(path) else dead).append(path)
        return live, dead

    def leave_to_parent(self) -> None:
        """Drop what was inherited, in a child that was just forked.

        A lock is held by whoever has a copy of its descriptor: the child must not
        keep that of its parent.
        """
        held, self._held = self._held, []
        for descriptor in held:
            try:
                os.close(descriptor)
            except OSError:
                pass

    def _take(self, path: str) -> int:
        """Wait for the lock of a file and hold it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        # Known before it is locked, so that a child always finds it.
        self._held.append(descriptor)
        flock(descriptor, LOCK_EX)
        return descriptor

    def _release(self, descriptor: int) -> None:
        self._held.remove(descriptor)
        # Closing is not enough where somebody forked meanwhile.
        flock(descriptor, LOCK_UN)
        os.close(descriptor)


class _Folding:
    """Holds `fold.lock`."""

    __slots__ = ("_descriptor", "_directory")

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory

    def __enter__(self) -> None:
        directory = self._directory
        self._descriptor = directory._take(directory.file("fold.lock"))  # noqa: SLF001 - its other half

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._directory._release(self._descriptor)  # noqa: SLF001 - as above


def open_directory(environ: Mapping[str, str], version: str) -> RunDirectory | None:
    """Return this command's directory, None where it cannot be had.

    Args:
        environ: Says which command this is, and perhaps where to put it.
        version: A word for the format of the files. Processes that would not
            understand each other do not meet.
    """
    run = environ.get(RUN_ID)
    if sys.platform == "win32" or not run:
        # Without locks that end with their process, each process is alone.
        return None
    for base in bases(environ):
        try:
            if base != environ.get(RUN_DIR):
                _make_private(base)
            path = f"{base}/{run}-{version}"
            _make_private(path)
            _sweep(base)
        except OSError:
            continue
        return RunDirectory(path)
    return None


def is_under_way(environ: Mapping[str, str], version: str) -> bool:
    """Tell whether another process of this command counts already."""
    run = environ.get(RUN_ID)
    return bool(run) and any(
        os.path.isdir(f"{base}/{run}-{version}") for base in bases(environ)
    )


def remove_run(environ: Mapping[str, str]) -> None:
    """Remove the directories of a command whose first process ends.

    Processes that outlive it keep theirs.
    """
    run = environ.get(RUN_ID)
    if sys.platform == "win32" or not run:
        return
    for base in bases(environ):
        for path in _runs(base):
            if path.startswith(f"{base}/{run}-"):
                removed.add(path)
                _remove(path)


def _make_private(path: str) -> None:
    """Make a directory that nobody else can enter, or see that it is one.

    Raises:
        OSError: It cannot be made, or it is somebody else's.
    """
    try:
        os.mkdir(path, _PRIVATE)
    except FileExistsError:
        pass
    found = os.lstat(path)
    others = stat.S_IMODE(found.st_mode) & ~_PRIVATE
    if not stat.S_ISDIR(found.st_mode) or others or found.st_uid != os.geteuid():
        message = f"{path} is not private"
        raise PermissionError(message)
    if not os.access(path, os.W_OK):
        message = f"{path} cannot be written"
        raise PermissionError(message)


def _runs(base: str) -> Iterator[str]:
    """Yield the directories of commands in which nobody but this process counts."""
    try:
        names = os.listdir(base)
    except OSError:
        return
    for name in names:
        path = f"{base}/{name}"
        try:
            if _is_run(name) and _is_left(path):
                yield path
        except OSError:
            pass  # somebody else removed it, or it is no directory


def _is_run(name: str) -> bool:
    pid, _, rest = name.partition("-")
    return pid.isdecimal() and rest.replace("-", "").isalnum()


def _sweep(base: str) -> None:
    """Remove directories of commands that are over and could not do it."""
    for path in _runs(base):
        age = time.time() - os.stat(path).st_mtime
        if age > _FRESH and is_over(path.rpartition("/")[2]):
            _remove(path)


def _is_left(path: str) -> bool:
    """Tell whether no process but this one counts in that directory."""
    mine = f"{os.getpid()}-"
    return not any(
        name.endswith(_CELLS)
        and not name.startswith(mine)
        and _is_locked(f"{path}/{name}")
        for name in os.listdir(path)
    )


def _remove(path: str) -> None:
    try:
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
        os.rmdir(path)
    except OSError:
        pass  # somebody else does it at the same moment


def _is_locked(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return True
    else:
        flock(descriptor, LOCK_UN)
        return False
    finally:
        os.close(descriptor)
