"""What launcher and boot stage agree on: variables, the switch, the boot directory.

The launcher sets these variables, every Python below it reads them. Nothing is
imported here but `os` and `sys`.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing is not loaded in this stage
if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

ACTIVE = "RESILIENCE_ACTIVE"
"""`1` where the agent was asked for."""
PREFIX = "RESILIENCE_PREFIX"
"""`sys.prefix` of the environment that has the agent."""
PYTHON = "RESILIENCE_PYTHON"
"""Its version of Python, such as `3.11`."""
LAUNCH_PID = "RESILIENCE_LAUNCH_PID"
"""The process that the launcher became."""

RUN_ID = "RESILIENCE_RUN_ID"
"""The command: the process that the launcher became, and when that started."""

BOOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bootstrap", "path")  # noqa: PTH100, PTH118, PTH120 - pathlib is not loaded in this stage
"""The directory whose `sitecustomize` starts the agent."""

RUN_DIR = "RESILIENCE_RUN_DIR"
"""Where the directories of runs shall lie."""

_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - what we make there is private
_OFF = frozenset({"0", "false", "off", "no"})
# These say that there is an agent; every other variable of ours says how it shall be.
_NO_SETTINGS = frozenset(
    {ACTIVE, PREFIX, PYTHON, LAUNCH_PID, RUN_ID, RUN_DIR, "RESILIENCE_ENABLED"}
)


def is_off(environ: Mapping[str, str]) -> bool:
    """Tell whether `RESILIENCE_ENABLED` says that nothing is to be governed."""
    return environ.get("RESILIENCE_ENABLED", "").strip().lower() in _OFF


def is_configured(environ: Mapping[str, str]) -> bool:
    """Tell whether anything was set that the agent would have to read."""
    return any(
        name.startswith("RESILIENCE_") and name not in _NO_SETTINGS and environ[name]
        for name in environ
    )


def bases(environ: Mapping[str, str]) -> list[str]:
    """Return where directories of runs may lie: as configured, in memory, on disk."""
    given = environ.get(RUN_DIR)
    if given:
        return [given]
    if sys.platform == "win32":
        return []
    own = f"resilience-{os.geteuid()}"
    return [f"{_SHARED_MEMORY}/{own}", f"{environ.get('TMPDIR') or '/tmp'}/{own}"]  # noqa: S108 - as above


def has_begun(environ: Mapping[str, str]) -> bool:
    """Tell whether any process of this command has counted anything."""
    run = environ.get(RUN_ID)
    for base in bases(environ) if run else ():
        try:
            names = os.listdir(base)  # noqa: PTH208 - pathlib is not loaded in this stage
        except OSError:
            continue
        if any(name.startswith(f"{run}-") for name in names):
            return True
    return False


def is_asked_for(environ: Mapping[str, str]) -> bool:
    """Tell whether a launcher of this very environment started this process."""
    return (
        environ.get(ACTIVE) == "1"
        and is_home(environ.get(PREFIX, ""))
        and environ.get(PYTHON) == python_version()
        and not is_off(environ)
    )


def is_home(prefix: str) -> bool:
    """Tell whether `prefix` is this environment, by whatever path it was reached."""
    try:
        return prefix == sys.prefix or os.path.samefile(prefix, sys.prefix)  # noqa: PTH121 - pathlib is not loaded in this stage
    except OSError:
        return False


def ask_for(environ: MutableMapping[str, str]) -> None:
    """Set what makes every Python below this process start the agent."""
    environ[ACTIVE] = "1"
    environ[PREFIX] = sys.prefix
    environ[PYTHON] = python_version()
    environ[LAUNCH_PID] = str(os.getpid())
    environ[RUN_ID] = run_id()
    before = environ.get("PYTHONPATH")
    kept = before.split(os.pathsep) if before else []
    # An empty entry of the app's own stays: it stands for the current directory.
    path = [BOOT, *(entry for entry in kept if entry != BOOT)]
    environ["PYTHONPATH"] = os.pathsep.join(path)


def python_version() -> str:
    """Return the version of this Python, such as `3.11`."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def run_id() -> str:
    """Return a word for this process that no other one had or will have."""
    pid = os.getpid()
    return f"{pid}-{_started(pid) or os.urandom(8).hex()}"


def is_over(run: str) -> bool:
    """Tell whether the process that `run` begins with is surely not there any more.

    Args:
        run: A word that begins as those of `run_id` do.
    """
    pid, _, rest = run.partition("-")
    started = rest.partition("-")[0]
    if not (pid.isdecimal() and started.isalnum()):
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OverflowError, OSError):
        return False
    return _started(int(pid)) not in {"", started}


def _started(pid: int) -> str:
    """Return when a process started, in ticks of the machine; empty if unknown."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib is not loaded in this stage
            # The second field is the command, in which anything may stand.
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""
