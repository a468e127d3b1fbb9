"""Wait for a library to be imported, then tell the agent, which is loaded only then.

A finder of ours stands first and lets the others find the module; only the way it
is executed gets an addition. What goes wrong here never fails the app's import.
"""

from __future__ import annotations

import os
import sys

from resilience_instrument import activation
from resilience_instrument.integrations.catalog import (
    LIBRARIES,
    TEST_TOOLS,
    WAITED_FOR,
)
from resilience_instrument.native import RLock

TYPE_CHECKING = False  # typing is not loaded in this stage
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType
    from typing import Any

_AGENT = "resilience_instrument._agent"
_DOORBELL = "resilience_instrument.integrations._doorbell"
_PATIENCE = 5.0
"""Seconds that a fork waits for another thread which loads the agent."""


def install() -> bool:
    """Put our finder first and govern what is imported already.

    Returns:
        Whether this was the first time; later ones only put the finder first again.
    """
    if FINDER in sys.meta_path:
        sys.meta_path.remove(FINDER)
        sys.meta_path.insert(0, FINDER)
        return False
    sys.meta_path.insert(0, FINDER)
    for library in LIBRARIES:
        if WAITED_FOR.get(library, library) in sys.modules:
            announce(library, sys.modules[library])
    return True


def announce(name: str, module: ModuleType) -> None:
    """Tell the agent that a library is there, or have it told at the first call."""
    if name not in LIBRARIES:
        # A tool that tests are made with: what it replaces must be ours before.
        wake()
    elif not _may_sleep() or not _can_wait(name, module):
        wake()
        _tell(name, module)


def wake() -> None:
    """Load the agent if libraries wait for their first call."""
    doorbell = sys.modules.get(_DOORBELL)
    if doorbell is not None:
        # Also where nothing waits any more: another thread may be about it.
        with _Sleep.lock:
            doorbell.wake(_tell)


def _tell(library: str, module: ModuleType) -> None:
    """Tell the agent that a library is there; what it raises is said, once."""
    try:
        from resilience_instrument._agent import library_imported

        library_imported(library, module)
    except Exception as fault:
        _say(f"{library} is not governed: {type(fault).__name__}: {fault}")


def _may_sleep() -> bool:
    """Tell whether there is nothing that the agent has to do before a first call.

    A worker that joins others must show what they counted, and may be the only one
    left that can. Settings that cannot be used are told at the start.
    """
    if _AGENT in sys.modules or activation.has_begun(os.environ):
        return False
    return not activation.is_configured(os.environ) or _Sleep.settings_hold()


def _can_wait(library: str, module: ModuleType) -> bool:
    """Put doorbells at the entrances of a library, if that can be done."""
    from resilience_instrument.integrations import _doorbell

    try:
        alone = library in (_Sleep.disabled or ())
        done = _doorbell.wait(library, module, wake, alone=alone)
    except Exception:
        return False
    if done and not _Sleep.watches_forks:
        _Sleep.watches_forks = True
        os.register_at_fork(
            before=_Sleep.hold,
            after_in_parent=_Sleep.go_on,
            after_in_child=_Sleep.go_on,
        )
    return done


class _Sleep:
    """The time before the first call, and the lock while the agent is loaded."""

    lock = RLock()
    held: list[bool] = []  # noqa: RUF012 - typing is not loaded in this stage
    watches_forks = False
    disabled: frozenset[str] | None = None
    """The libraries that the settings leave out, None before these were read."""

    @classmethod
    def settings_hold(cls) -> bool:
        """Read the settings, once, and tell whether they can be used."""
        if cls.disabled is None:
            try:
                from resilience_instrument.config.load import from_environment

                cls.disabled = from_environment(os.environ).disabled
            except Exception:
                # The agent meets the same, and says it.
                return False
        return True

    @classmethod
    def hold(cls) -> None:
        """Wait before a fork: a child could not finish what another thread loads."""
        cls.held.append(cls.lock.acquire(timeout=_PATIENCE))

    @classmethod
    def go_on(cls) -> None:
        """Go on after a fork, in the parent as in the child."""
        if cls.held.pop():
            cls.lock.release()
        else:
            cls.lock = RLock()


_said: set[str] = set()


def _say(line: str) -> None:
    if line not in _said and sys.stderr is not None:
        _said.add(line)
        sys.stderr.write(f"resilience-instrument: {line}\n")


class Finder:
    """Finds nothing by itself; adds a step to what the others find."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> Any:
        """Return the spec that the other finders have, if `name` is governed."""
        if not _is_waited_for(name):
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec = find(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    _extend(spec, name)
                return spec
        return None


FINDER = Finder()


def _is_waited_for(name: str) -> bool:
    if name in LIBRARIES:
        return name not in WAITED_FOR
    return name in TEST_TOOLS or name in WAITED_FOR.values()


def _announce_whole(name: str, module: ModuleType) -> None:
    """Announce the library that is whole now that this module was executed."""
    package = name.partition(".")[0]
    if WAITED_FOR.get(package) == name:
        announce(package, sys.modules.get(package, module))
    else:
        announce(name, module)


def _extend(spec: Any, name: str) -> None:
    """Make the loader announce the module when it has executed it.

    A loader of one module alone gets the step itself, so that everybody else sees
    the loader that they expect. One that others share is wrapped.
    """
    loader = spec.loader
    if getattr(loader, "name", None) == name:
        try:
            loader.exec_module = _then_announce(loader, name)
        except AttributeError:
            pass
        else:
            return
    if hasattr(loader, "exec_module"):
        spec.loader = _Wrapped(loader, name)


def _then_announce(loader: Any, name: str) -> Callable[[ModuleType], None]:
    def exec_module(module: ModuleType) -> None:
        # Once: a reload finds a new spec, and nobody sees the step afterwards.
        del loader.exec_module
        loader.exec_module(module)
        _announce_whole(name, module)

    return exec_module


class _Wrapped:
    """Stands for a loader until its module is executed."""

    def __init__(self, loader: Any, name: str) -> None:
        self._loader = loader
        self._name = name

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None:
            spec.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _announce_whole(self._name, module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
