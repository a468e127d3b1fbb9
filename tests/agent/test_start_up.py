"""Scenarios 14, 15, 27 to 29, 31, 33, 37, 41 to 46: what the agent does to a start."""

from __future__ import annotations

import json
import time
import venv
from typing import TYPE_CHECKING, Any

import pytest

from agent.processes import (
    GOVERNED,
    Done,
    Service,
    bare,
    environment,
    free_port,
    governed,
    lines,
    run,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.scenario]

STANDING = """\
import json, os, sys
def standing():
    return {
        "modules": sorted(sys.modules),
        "finders": [repr(finder).partition(" at ")[0] for finder in sys.meta_path],
        "threads": len(os.listdir("/proc/self/task")),
        "files": len(os.listdir("/proc/self/fd")),
        "sockets": sum("socket:" in os.readlink(f"/proc/self/fd/{n}")
            for n in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{n}")),
    }
"""


def standing(done: Done) -> dict[str, Any]:
    """Return what a process said about itself."""
    assert (0, "") == (done.code, done.err)
    found: dict[str, Any] = json.loads(done.out)
    return found


# -- 14: the app's own start-up ------------------------------------------------

OWN = (
    "import sys\nsys.own = getattr(sys, 'own', 0) + 1\nsys.then = list(sys.meta_path)\n"
)
SAYS_OWN = f"""\
import sys
from resilience_instrument.bootstrap.hooks import FINDER
print(sys.own, FINDER in sys.then, FINDER is sys.meta_path[0])
{GOVERNED}
"""


def test_14_the_apps_own_start_up_runs_once_and_first(tmp_path: Path) -> None:
    """What stands on the path of the app is shadowed by nothing of ours."""
    (tmp_path / "sitecustomize.py").write_text(OWN)
    env = environment(PYTHONPATH=str(tmp_path))

    done = governed("python", "-c", SAYS_OWN, env=env)

    assert (0, "1 False True\nTrue\n", "") == done


def test_14_a_start_up_in_site_packages_runs_once_and_first(wheel_bin: Path) -> None:
    """Also with both carriers there."""
    site = next(wheel_bin.parent.glob("lib/python*/site-packages"))
    own = site / "sitecustomize.py"
    own.write_text(OWN)
    try:
        done = run(
            wheel_bin / "resilience-instrument", wheel_bin / "python", "-c", SAYS_OWN
        )
    finally:
        own.unlink()

    assert (0, "1 False True\nTrue\n", "") == done


def test_14_a_start_up_that_raises_is_told_as_ever(tmp_path: Path) -> None:
    """In Python's own words, and once: the launcher is no Python."""
    (tmp_path / "sitecustomize.py").write_text("raise RuntimeError('boom')")
    env = environment(PYTHONPATH=str(tmp_path))

    plain = run("python", "-c", "pass", env=env)
    done = governed("python", "-c", GOVERNED, env=env)

    assert "RuntimeError: boom" in plain.err
    assert (0, "True\n", plain.err) == done


# -- 15: isolated --------------------------------------------------------------


@pytest.mark.parametrize("option", ["-I", "-E", "-s", "-P"])
def test_15_an_isolated_python_is_reached_by_the_wheel(
    wheel_bin: Path, option: str
) -> None:
    """Where PYTHONPATH is not read, the `.pth` file is."""
    launcher, python = wheel_bin / "resilience-instrument", wheel_bin / "python"

    assert (0, "True\n", "") == run(launcher, python, option, "-c", GOVERNED)


def test_15_without_site_there_is_no_agent_and_no_harm(wheel_bin: Path) -> None:
    """`-S` reaches nothing at all; the app runs."""
    launcher, python = wheel_bin / "resilience-instrument", wheel_bin / "python"
    code = "import sys; print('resilience_instrument' in sys.modules)"

    assert (0, "False\n", "") == run(launcher, python, "-S", "-c", code)


def test_15_without_the_pth_file_an_isolated_python_is_left_alone(
    wheel_bin: Path,
) -> None:
    """Who installs the wheel without it loses this way in, and hears nothing."""
    launcher, python = wheel_bin / "resilience-instrument", wheel_bin / "python"
    pth = next(wheel_bin.parent.glob("lib/*/*/resilience_instrument.pth"))
    aside = pth.rename(pth.with_suffix(".off"))
    try:
        done = run(launcher, python, "-I", "-c", GOVERNED)
    finally:
        aside.rename(pth)

    assert (0, "False\n", "") == done


# -- 27, 28: what it costs -----------------------------------------------------


def test_27_the_boot_stage_loads_a_handful_of_modules() -> None:
    """Our own few and one that is built in: no typing, no threads, no descriptors."""
    code = f"{STANDING}\nprint(json.dumps(standing()))"
    plain = standing(run("python", "-c", code, env=bare()))

    found = standing(governed("python", "-c", code, env=bare()))

    extra = set(found["modules"]) - set(plain["modules"])
    assert {name for name in extra if not name.startswith("resilience_instrument")} == {
        "__future__",
        "atexit",
        "sitecustomize",
    }
    assert len(extra) <= 15
    for what in ("threads", "files", "sockets"):
        assert plain[what] == found[what]


# The boot stage, what waits for the first call, and a module that is built in.
WAITING = {
    "__future__",
    "atexit",
    "sitecustomize",
    "resilience_instrument",
    "resilience_instrument.activation",
    "resilience_instrument.bootstrap",
    "resilience_instrument.bootstrap.carrier",
    "resilience_instrument.bootstrap.hooks",
    "resilience_instrument.integrations",
    "resilience_instrument.integrations._doorbell",
    "resilience_instrument.integrations.catalog",
    "resilience_instrument.native",
}


@pytest.mark.parametrize("library", ["requests", "httpx", "urllib.request", "tenacity"])
def test_27_importing_a_library_loads_next_to_nothing(
    tmp_path: Path, library: str
) -> None:
    """Twelve small modules; no thread, no descriptor and no file before a call."""
    code = f"{STANDING}\nimport {library}\nprint(json.dumps(standing()))"
    plain = standing(run("python", "-c", code, env=bare()))

    env = bare(RESILIENCE_RUN_DIR=str(tmp_path))
    found = standing(governed("python", "-c", code, env=env))

    assert WAITING >= set(found["modules"]) - set(plain["modules"])
    for what in ("threads", "files", "sockets"):
        assert plain[what] == found[what]
    assert [] == list(tmp_path.iterdir())


def test_27_settings_are_read_at_the_import(tmp_path: Path) -> None:
    """And nothing more: still no agent, no thread, no descriptor and no file."""
    code = f"{STANDING}\nimport requests\nprint(json.dumps(standing()))"
    plain = standing(run("python", "-c", code, env=bare()))

    env = bare(RESILIENCE_RUN_DIR=str(tmp_path), RESILIENCE_TIMEOUT_READ="5")
    found = standing(governed("python", "-c", code, env=env))

    assert "resilience_instrument.config.plan" in found["modules"]
    assert "resilience_instrument._agent" not in found["modules"]
    assert {"dataclasses", "inspect", "tomllib"}.isdisjoint(
        set(found["modules"]) - set(plain["modules"])
    )
    for what in ("threads", "files", "sockets"):
        assert plain[what] == found[what]
    assert [] == list(tmp_path.iterdir())


CALLS = {
    "requests": "from requests import get\nprint(get(URL).status_code)",
    "adapter": (
        "import requests\n"
        "request = requests.Request('GET', URL).prepare()\n"
        "print(requests.adapters.HTTPAdapter().send(request).status_code)"
    ),
    "httpx": "import httpx\nwith httpx.Client() as c: print(c.get(URL).status_code)",
    "httpx, async": (
        "import asyncio, httpx\n"
        "async def main():\n"
        "    async with httpx.AsyncClient() as c:\n"
        "        print((await c.get(URL)).status_code)\n"
        "asyncio.run(main())"
    ),
    "urllib3": "import urllib3\nprint(urllib3.request('GET', URL).status)",
    "urllib.request": (
        "from urllib.request import urlopen\n"
        "with urlopen(URL) as answer: print(answer.status)"
    ),
    "from a thread": (
        "import requests, threading\n"
        "t = threading.Thread(target=lambda: print(requests.get(URL).status_code))\n"
        "t.start(); t.join()"
    ),
    "in a fork": (
        "import os, requests\n"
        "if os.fork() == 0:\n"
        "    print(requests.get(URL).status_code, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()"
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_27_the_first_call_is_governed_without_any_setting(call: str) -> None:
    """Whichever way it enters, and in the library's own way: two retries, a 200."""
    with Service(503, 503, 200) as service:
        code = f"URL = {service.url!r}\n{CALLS[call]}"

        done = governed("python", "-c", code, env=bare())

    assert (0, "200\n") == done[:2]
    assert 3 == len(service.asked)


def test_27_the_first_calls_of_many_threads_are_all_counted(tmp_path: Path) -> None:
    """They wait until the agent is there; none slips past it."""
    code = (
        "import requests, sys, threading\n"
        "def call(): requests.get(URL)\n"
        "threads = [threading.Thread(target=call) for _ in range(16)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "agent = sys.modules['resilience_instrument._agent']._Process.agent\n"
        "from resilience_instrument.signals.exposition import Exposition\n"
        "print(Exposition(agent.port.gather).render('')[0].decode())"
    )
    with Service(200) as service:
        env = bare(RESILIENCE_RUN_DIR=str(tmp_path))
        done = governed("python", "-c", f"URL = {service.url!r}\n{code}", env=env)

    assert 0 == done.code
    counted = [
        float(line.rpartition(" ")[2])
        for line in lines(done.out)
        if line.startswith("api_request_total{")
    ]
    assert 16 == sum(counted)


@pytest.mark.parametrize("value", ["0", "false", " OFF ", "no"])
def test_28_switched_off_it_is_as_if_it_were_not_there(value: str) -> None:
    """Neither modules nor finders differ from plain Python."""
    code = f"{STANDING}\nprint(json.dumps(standing()))"
    plain = standing(run("python", "-c", code, env=bare()))

    done = governed("python", "-c", code, env=bare(RESILIENCE_ENABLED=value))

    assert plain == standing(done)


def test_28_a_child_that_is_switched_off_loads_nothing_of_ours() -> None:
    """The carrier itself sees the switch."""
    code = f"{STANDING}\nprint(json.dumps(standing()))"
    plain = standing(run("python", "-c", code, env=bare()))

    env = bare(CODE=code)
    command = 'RESILIENCE_ENABLED=0 exec python -c "$CODE"'
    found = standing(governed("sh", "-c", command, env=env))

    plain["modules"] = sorted([*plain["modules"], "sitecustomize"])
    assert plain == found


# -- 29: the interpreter's options ---------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ["-W", "error"],
        ["-X", "dev"],
        ["-P"],
        ["-s"],
        ["-O"],
        ["-OO"],
        ["-X", "utf8"],
        ["-b"],
        ["-X", "frozen_modules=off"],
    ],
    ids=" ".join,
)
def test_29_options_of_the_interpreter_change_nothing(
    options: list[str], service: Service
) -> None:
    """The agent works under each and adds no warning of its own."""
    code = f"{GOVERNED}\nprint(requests.get({service.url!r}).status_code)"
    env = environment(RESILIENCE_METRICS_PORT=str(free_port()))

    done = governed("python", *options, "-c", code, env=env)

    assert (0, "True\n200\n", "") == done


def test_29_warnings_may_be_errors_for_the_whole_command() -> None:
    """`PYTHONWARNINGS=error` strikes nobody."""
    env = environment(PYTHONWARNINGS="error")

    assert (0, "True\n", "") == governed("python", "-c", GOVERNED, env=env)


# -- 31, 33: what the app imports, and how -------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "from requests import get\nget(URL)",
        "from requests.api import get\nget(URL)",
        "from requests.sessions import Session\nSession().get(URL)",
        "import requests.adapters, requests\nrequests.get(URL)",
        "import httpx\nhttpx.get(URL)",
        "from httpx import Client\nClient().get(URL)",
    ],
)
def test_31_however_it_is_imported_it_is_governed(code: str) -> None:
    """References taken early lead to the same place."""
    with Service(503, 200) as service:
        env = environment(
            RESILIENCE_METRICS_PORT=str(free_port()), RESILIENCE_RETRY_BASE_DELAY="0.01"
        )
        done = governed("python", "-c", f"URL = {service.url!r}\n{code}", env=env)

    assert (0, "", "") == done
    assert 2 == len(service.asked)


def test_31_what_another_start_up_imported_is_governed_too(tmp_path: Path) -> None:
    """A library that was there before us."""
    (tmp_path / "sitecustomize.py").write_text("import requests")
    env = environment(PYTHONPATH=str(tmp_path))

    assert (0, "True\n", "") == governed("python", "-c", GOVERNED, env=env)


def test_33_a_library_of_another_shape_is_left_alone(tmp_path: Path) -> None:
    """It is imported all the same, the others are governed; who debugs is told."""
    (tmp_path / "requests.py").write_text("answer = 42")
    code = (
        "import requests, httpx\n"
        "from resilience_instrument.integrations._patch import is_ours\n"
        "print(requests.answer, is_ours(vars(httpx.Client)['send']))"
    )
    env = environment(PYTHONPATH=str(tmp_path))

    quiet = governed("python", "-c", code, env=env)
    told = governed("python", "-c", code, env={**env, "RESILIENCE_DEBUG": "1"})

    assert (0, "42 True\n", "") == quiet
    skipped = [line for line in lines(told.err) if "is skipped" in line]
    assert (1, True) == (len(skipped), "requests" in skipped[0])


# -- 37: settings --------------------------------------------------------------


def test_37_settings_that_cannot_be_used_leave_the_app_alone() -> None:
    """It runs ungoverned, one line says so, and the doctor fails."""
    env = environment(RESILIENCE_TIMEOUT_READ="soon")

    done = governed("python", "-c", GOVERNED, env=env)

    assert (0, "False\n") == done[:2]
    assert 1 == len(lines(done.err))
    assert "RESILIENCE_TIMEOUT_READ='soon'" in done.err
    assert 1 == governed("--doctor", env=env).code


# -- 41, 42: children of other kinds -------------------------------------------


def test_41_a_child_without_an_environment_is_plain_and_quiet(wheel_bin: Path) -> None:
    """Nothing of ours is left in it, and nobody complains."""
    code = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', "
        "'import sys; print(sorted(sys.modules))'], env={})"
    )
    launcher, python = wheel_bin / "resilience-instrument", wheel_bin / "python"

    assert run(python, "-c", code, env=bare()) == run(
        launcher, python, "-c", code, env=bare()
    )


def test_42_an_environment_without_the_agent_is_told_once(tmp_path: Path) -> None:
    """By the first process; its children stay quiet."""
    venv.EnvBuilder(symlinks=True).create(tmp_path / "other")
    python = tmp_path / "other" / "bin" / "python"
    code = (
        "import subprocess, sys; print('app', flush=True)\n"
        "subprocess.run([sys.executable, '-c', 'print(\"child\")'])"
    )

    done = governed(python, "-c", code)

    assert (0, "app\nchild\n") == done[:2]
    assert 1 == len(lines(done.err))
    assert "resilience-instrument: inactive: " in done.err


# -- 43 to 46: what must not happen --------------------------------------------

AUDIT = """\
import sys
def hook(event, args):
    if event in WATCHED or (event == "open" and args[2] & 0o3101):
        sys.stdout.write(f"{event} {args}\\n")
WATCHED = {"os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.system",
    "subprocess.Popen", "socket.__new__", "socket.bind", "socket.connect",
    "socket.getaddrinfo", "os.mkdir", "os.rename", "_thread.start_new_thread"}
sys.addaudithook(hook)
"""


def test_43_the_boot_stage_starts_opens_and_writes_nothing(wheel_bin: Path) -> None:
    """Nothing is to be heard of by an audit hook that came before us."""
    site = next(wheel_bin.parent.glob("lib/python*/site-packages"))
    (site / "audit_first.py").write_text(AUDIT)
    pth = site / "a_audit.pth"
    pth.write_text("import audit_first\n")
    launcher, python = wheel_bin / "resilience-instrument", wheel_bin / "python"
    try:
        quiet = run(launcher, python, "-B", "-c", "import json", env=bare())
        heard = run(
            launcher, python, "-B", "-c", "import os; os.system('')", env=bare()
        )
    finally:
        pth.unlink()

    assert (0, "", "") == quiet
    assert heard.out.startswith("os.system ")


def test_44_many_threads_may_import_at_once() -> None:
    """No deadlock, and everything is wrapped once."""
    code = (
        "import threading\n"
        "def load(): import requests, httpx\n"
        "threads = [threading.Thread(target=load) for _ in range(20)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        f"{GOVERNED}\nprint(is_ours(wrapped.__wrapped__))"
    )

    assert (0, "True\nFalse\n", "") == governed("python", "-c", code)


@pytest.mark.parametrize(
    "reload",
    [
        "importlib.reload(requests)",
        "importlib.reload(requests.sessions)",
        "importlib.reload(requests.adapters)",
    ],
)
def test_45_a_reload_does_no_harm(reload: str) -> None:
    """The app goes on, and what is still wrapped is wrapped once."""
    with Service(503, 503, 200) as service:
        code = (
            f"import importlib, requests\n{reload}\n"
            f"print(requests.get({service.url!r}).status_code)"
        )
        env = environment(
            RESILIENCE_METRICS_PORT=str(free_port()), RESILIENCE_RETRY_BASE_DELAY="0.01"
        )
        done = governed("python", "-c", code, env=env)

    assert (0, "") == (done.code, done.err)
    assert ("200\n", 3) == (done.out, len(service.asked))


def test_46_the_interpreter_ends_as_fast_and_as_quietly(service: Service) -> None:
    """A thread that serves metrics keeps nobody waiting and leaves no last words."""
    code = f"import requests\nfor _ in range(3): requests.get({service.url!r})\n"
    code += "import time; time.sleep(0.2); print(time.time())"
    env = environment(RESILIENCE_METRICS_PORT=str(free_port()))

    ends = []
    for start in (run, governed) * 3:
        done = start("python", "-c", code, env=env)
        ends.append(time.time() - float(done.out))
        assert (0, "") == (done.code, done.err)

    assert min(ends[1::2]) < min(ends[::2]) + 0.5
