"""The two ways into a governed process meet here; whichever comes first installs.

Before the app starts, nothing beyond `os` and `sys` is imported, nothing is
opened, started or said.
"""

from __future__ import annotations

import os
import sys

from resilience_instrument import activation
from resilience_instrument import native as _native  # noqa: F401 - before any patches
from resilience_instrument.bootstrap import hooks


def start() -> None:
    """Start from the `.pth` or `.start` file, if this process is to be governed.

    These files are read before any `sitecustomize`, but the agent comes last.
    """
    if not activation.is_asked_for(os.environ):
        return
    site = sys.modules.get("site")
    last = getattr(site, "execsitecustomize", None)
    if site is None or last is None:
        install()
        return

    def execsitecustomize() -> None:
        site.execsitecustomize = last  # type: ignore[attr-defined]
        try:
            last()
        finally:
            install()

    site.execsitecustomize = execsitecustomize  # type: ignore[attr-defined]


def install() -> None:
    """Wait for the libraries that are governed; a second time changes nothing."""
    if not activation.is_off(os.environ) and hooks.install():
        _tidy_up_at_exit()


def _tidy_up_at_exit() -> None:
    """Have the first process of the command remove the directory of its run."""
    first = f"{os.getpid()}-"
    if not os.environ.get(activation.RUN_ID, "").startswith(first):
        return
    import atexit

    def tidy_up() -> None:
        # Not in a forked child, which has inherited this.
        if first == f"{os.getpid()}-" and activation.has_begun(os.environ):
            from resilience_instrument.signals.rundir import remove_run

            remove_run(os.environ)

    atexit.register(tidy_up)
