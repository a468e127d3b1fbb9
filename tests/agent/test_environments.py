"""Scenarios 30, 32 and 38, and other places where Python runs: archives, notebooks."""

from __future__ import annotations

import shutil
import sys
import sysconfig
import zipapp
from pathlib import Path

import pytest

from agent.processes import (
    BIN,
    GOVERNED,
    Service,
    bare,
    environment,
    free_port,
    governed,
    run,
)
from resilience_instrument.integrations.catalog import LIBRARIES

pytestmark = [pytest.mark.slow, pytest.mark.scenario, pytest.mark.timeout(240)]

SITE = Path(sysconfig.get_path("purelib"))
BUNDLED = ("requests", "urllib3", "idna", "certifi", "charset_normalizer")


def quick() -> dict[str, str]:
    """Return an environment with short pauses and a port that is free."""
    return environment(
        RESILIENCE_METRICS_PORT=str(free_port()), RESILIENCE_RETRY_BASE_DELAY="0.01"
    )


# -- 30: archives --------------------------------------------------------------

APP = f"""\
import sys
{GOVERNED}
def main():
    print(requests.__version__, requests.get(sys.argv[1]).status_code)
if __name__ == "__main__":
    main()
"""


def bundle(into: Path) -> None:
    """Put an app and its own copy of requests, marked as such, into a directory."""
    for name in BUNDLED:
        source = SITE / name
        ignored = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(source, into / name, ignore=ignored)
    with (into / "requests" / "__init__.py").open("a", encoding="utf-8") as file:
        file.write("\n__version__ = 'bundled'\n")
    (into / "app.py").write_text(APP)


def test_30_a_library_inside_a_zipapp_is_governed(tmp_path: Path) -> None:
    """It is the archive's own copy, not the one beside the agent."""
    bundle(tmp_path / "app")
    archive = tmp_path / "app.pyz"
    zipapp.create_archive(tmp_path / "app", archive, main="app:main")

    with Service(503, 200) as service:
        done = governed("python", archive, service.url, env=quick())

    assert (0, "True\nbundled 200\n", "") == done
    assert 2 == len(service.asked)


def test_30_a_library_inside_a_shiv_is_governed(tmp_path: Path) -> None:
    """It is unpacked first and imported from there."""
    bundle(tmp_path / "app")
    archive = tmp_path / "app.pyz"
    shiv = (BIN / "shiv", "--site-packages", tmp_path / "app", "-e", "app:main")
    assert 0 == run(*shiv, "-o", archive, env=bare()).code

    with Service(503, 200) as service:
        env = quick() | {"SHIV_ROOT": str(tmp_path / "root")}
        done = governed("python", archive, service.url, env=env)

    assert (0, "True\nbundled 200\n", "") == done
    assert 2 == len(service.asked)


PLAIN = (
    "import sys\nprint('app', sys.argv[1:], 'resilience_instrument' in sys.modules)\n"
)
FROZEN = """\
import sys
if sys.argv[1] == "ours":
    import resilience_instrument.auto
import requests
print(requests.get(sys.argv[2]).status_code)
"""


@pytest.mark.long
def test_30_a_hermetic_pex_runs_unchanged(tmp_path: Path) -> None:
    """It shuts everything out, us too, and nobody complains."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "app.py").write_text(PLAIN)
    archive = tmp_path / "app.pex"
    pex = (BIN / "pex", "-D", tmp_path / "src", "-m", "app", "-o", archive)
    env = bare(PEX_ROOT=str(tmp_path / "root"))
    made = run(*pex, env=env)
    assert 0 == made.code, made.err

    plain = run("python", archive, "x", env=env)
    done = governed("python", archive, "x", env=env)

    assert "app ['x']" in plain.out
    assert (0, "app ['x']", "") == (done.code, done.out[:9], done.err)


@pytest.mark.long
def test_30_a_frozen_program_runs_unchanged_and_can_start_us_itself(
    tmp_path: Path,
) -> None:
    """The launcher does not reach it, as it has no site; one line of code does."""
    (tmp_path / "app.py").write_text(FROZEN)
    rooms = [LIBRARIES[name] for name in ("requests", "urllib3", "urllib.request")]
    hidden = [f"--hidden-import={n}" for n in ("resilience_instrument._agent", *rooms)]
    made = run(
        BIN / "pyinstaller",
        *("--log-level", "ERROR", *hidden, "app.py"),
        env=bare(),
        cwd=tmp_path,
    )
    assert 0 == made.code, made.err
    program = tmp_path / "dist" / "app" / "app"
    env = bare(
        RESILIENCE_METRICS_PORT=str(free_port()), RESILIENCE_RETRY_BASE_DELAY="0.01"
    )

    with Service(503, 503, 200) as service:
        launched = governed(program, "plain", service.url, env=env)
        by_itself = run(program, "ours", service.url, env=env)

    assert (0, "503\n", "") == launched
    assert (0, "200\n", "") == by_itself
    assert 3 == len(service.asked)


# -- 32: httpx by another name -------------------------------------------------


@pytest.mark.parametrize(
    "imports",
    [
        "import httpx",
        "import httpx2 as httpx",
        "import httpx2; httpx2.alias_httpx(); import httpx",
        "import httpx, httpx2",
    ],
)
def test_32_each_call_is_governed_exactly_once(imports: str) -> None:
    """Three attempts and not nine, by whatever name the module goes."""
    with Service(503) as service:
        code = f"{imports}\nprint(httpx.get({service.url!r}).status_code)"
        done = governed("python", "-c", code, env=quick())

    assert (0, "503\n", "") == done
    assert 3 == len(service.asked)


def test_32_a_future_httpx_is_left_alone(tmp_path: Path) -> None:
    """One of another shape is no error, and requests is governed all the same."""
    (tmp_path / "httpx.py").write_text("__version__ = '1.0.dev6'\nclass Client: pass\n")
    code = f"import httpx\nprint(httpx.Client.__name__)\n{GOVERNED}"

    done = governed("python", "-c", code, env=environment(PYTHONPATH=str(tmp_path)))

    assert (0, "Client\nTrue\n") == done[:2]


# -- 38: tests of the app ------------------------------------------------------

TESTS = """\
import httpx, requests, responses, respx, vcr
import pytest

URL = "http://service.test/"

@responses.activate
def test_responses():
    responses.get(URL, status=503)
    responses.get(URL, status=200)
    assert requests.get(URL).status_code in (200, 503)

def test_requests_mock(requests_mock):
    requests_mock.get(URL, text="mocked")
    assert requests.get(URL).text == "mocked"

@respx.mock
def test_respx():
    route = respx.get(URL).respond(204)
    assert httpx.get(URL).status_code == 204
    assert route.call_count == 1

def test_vcr(tmp_path):
    import os
    for _ in range(2):
        with vcr.use_cassette(str(tmp_path / "tape.yaml")) as tape:
            assert requests.get(os.environ["SERVICE"]).status_code == 200
    assert tape.play_count >= 1
"""


@pytest.mark.parametrize("enabled", ["1", "0"])
def test_38_mocks_of_an_apps_tests_still_intercept(
    tmp_path: Path, service: Service, enabled: str
) -> None:
    """Under the launcher, switched on or off."""
    (tmp_path / "test_app.py").write_text(TESTS)
    env = quick() | {"RESILIENCE_ENABLED": enabled, "SERVICE": service.url}

    done = governed(
        "pytest", "-q", "-pno:ddtrace", "-pno:cacheprovider", env=env, cwd=tmp_path
    )

    assert 0 == done.code, done.out
    assert "4 passed" in done.out
    assert 1 == len(service.asked)


# -- other schedulers, notebooks -----------------------------------------------

EVENTLET = """\
import eventlet
eventlet.monkey_patch()
import sys, time
import requests
begun = time.monotonic()
pool = eventlet.GreenPool(10)
def call(name):
    return requests.get(sys.argv[1] + name).status_code
statuses = list(pool.imap(call, "abcdefghij"))
took = time.monotonic() - begun
with eventlet.import_patched("urllib.request").urlopen(
    f"http://127.0.0.1:{sys.argv[2]}/metrics") as answer:
    lines = answer.read().decode().splitlines()
retried = any(line.startswith("api_retry_total") for line in lines)
print(set(statuses), took < 8, retried)
"""


def test_greenlets_of_eventlet_wait_side_by_side(port: int) -> None:
    """Ten in back-off take as long as one; the port answers them too."""
    with Service(*[503] * 10, 200) as service:
        env = quick() | {
            "EVENTLET_NO_GREENDNS": "yes",
            "RESILIENCE_METRICS_PORT": str(port),
            "RESILIENCE_BREAKER_CONSECUTIVE": "100",
            "RESILIENCE_BREAKER_MIN_CALLS": "1000",
            "RESILIENCE_RETRY_BASE_DELAY": "2",
            "RESILIENCE_RETRY_BUDGET_MIN": "100",
        }
        done = governed(
            "python", "-W", "ignore", "-c", EVENTLET, service.url, str(port), env=env
        )

    assert (0, "{200} True True\n") == done[:2], done.err


KERNEL = f"""\
import sys
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel()
try:
    reply = client.execute_interactive({GOVERNED!r}, timeout=60,
        output_hook=lambda m: print(m["content"].get("text", ""), end=""))
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
"""


def test_a_notebooks_kernel_is_governed(tmp_path: Path) -> None:
    """It is a child of the server that the launcher started."""
    env = quick() | {
        "JUPYTER_PLATFORM_DIRS": "1",
        "IPYTHONDIR": str(tmp_path),
        "JUPYTER_RUNTIME_DIR": str(tmp_path),
    }

    done = governed(sys.executable, "-c", KERNEL, env=env)

    assert (0, "True\n") == done[:2], done.err
