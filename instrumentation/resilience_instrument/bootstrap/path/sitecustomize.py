"""Starts the agent in every Python below the launcher, after the app's own start-up.

Its directory stands first in `PYTHONPATH`, so this file shadows a `sitecustomize`
that the app may have. That one runs first, as if this one were not there. Other
Pythons than the agent's own read this file too: it must be plain and do nothing.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def run_shadowed(name):
    """Run the module of this name that would have run without us, if any."""
    sys.path[:] = [entry for entry in sys.path if entry != HERE]
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(name, None) if find is not None else None
        if spec is not None and spec.loader is not None:
            module = sys.modules["_frozen_importlib"].module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
            return


def is_home(prefix):
    """Tell whether this is that environment, by whatever path it was reached."""
    try:
        return prefix == sys.prefix or os.path.samefile(prefix, sys.prefix)
    except OSError:
        return False


def start():
    """Start the agent, if it was asked for and belongs to this environment."""
    environ = os.environ
    off = environ.get("RESILIENCE_ENABLED", "").strip().lower()
    if environ.get("RESILIENCE_ACTIVE") != "1" or off in ("0", "false", "off", "no"):
        return
    home = environ.get("RESILIENCE_PREFIX", "")
    python = "{}.{}".format(*sys.version_info[:2])
    if environ.get("RESILIENCE_PYTHON") == python and is_home(home):
        from resilience_instrument.bootstrap import carrier

        carrier.install()
    elif environ.get("RESILIENCE_LAUNCH_PID") == str(os.getpid()) and sys.stderr:
        sys.stderr.write(
            "resilience-instrument: inactive: it is installed in {},"
            " but the command runs in {}\n".format(home, sys.prefix)
        )


try:
    run_shadowed(__name__)
finally:
    start()
