"""What the README shows is true: its code runs, its metrics exist, its links lead.

Each fenced block is checked by its language. `sh` lines are executed in an empty
directory, or stand in `ELSEWHERE` with the check that makes them true. `python`
blocks are executed; one that begins with a comment such as `# app.py` is that file
for the other blocks. `text` shows metric samples of the catalogue or the output of
the `sh` block above it, where `...` stands for anything and numbers may differ.
`yaml` is a Prometheus configuration that promtool accepts after the `sh` block
above it. `mermaid` is a picture. Any other language fails: decide here how it is
checked.
"""

from __future__ import annotations

import http.server
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from bundle import monitoring
from resilience_instrument.config import defaults
from resilience_instrument.signals import catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _pytest.mark import ParameterSet

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w-]+\.\w+)\n")
SAMPLE = re.compile(r"([a-z]+_[a-z_]+)(?:\{(.*)\})? (?:[-+0-9.e]+|\.\.\.)")
LABEL = re.compile(r'(\w+)="[^"]*"')
PATIENCE = 100


def labels_of_samples() -> dict[str, set[str]]:
    """Return the labels of every sample that the metrics port can show."""
    labels: dict[str, set[str]] = {}
    for metric in catalog.METRICS:
        own = set(metric.labels)
        if metric.kind == "histogram":
            labels[f"{metric.name}_bucket"] = own | {"le"}
            labels[f"{metric.name}_count"] = labels[f"{metric.name}_sum"] = own
        else:
            labels[metric.name] = own
    return labels


class Block(NamedTuple):
    """A fenced block of the README and the output-giving block above it."""

    language: str
    text: str
    line: int
    above: str


def blocks_of(document: str) -> list[Block]:
    """Return the fenced blocks of `document` in their order."""
    blocks: list[Block] = []
    above = ""
    for fence in FENCE.finditer(document):
        line = document.count("\n", 0, fence.start()) + 1
        blocks.append(Block(fence[1], fence[2], line, above))
        above = fence[2] if fence[1] == "sh" else above
    return blocks


BLOCKS = blocks_of((ROOT / "README.md").read_text(encoding="utf-8"))


def commands_of(script: str) -> list[str]:
    """Return the commands of a `sh` block without prompts and comments."""
    joined = script.replace("\\\n", " ")
    bare = re.sub(r"(?:^|\s)#.*", "", joined, flags=re.MULTILINE)
    lines = (line.strip().removeprefix("$ ") for line in bare.splitlines())
    return [line for line in lines if line]


def is_target(match: re.Match[str]) -> bool:
    """Say whether the Makefile has the target."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return f"\n{match[1]}: " in makefile


def is_installable(match: re.Match[str]) -> bool:
    """Say whether this project has that name and those extras."""
    metadata = importlib.metadata.metadata("resilience-instrument")
    known = {"", *(metadata.get_all("Provides-Extra") or [])}
    return (
        match[1] in {".", metadata["Name"]}
        and set((match[2] or "").split(",")) <= known
    )


def is_metrics_port(match: re.Match[str]) -> bool:
    """Say whether the default port is asked."""
    return int(match[1]) == defaults.METRICS_FIRST_PORT


def is_anything(match: re.Match[str]) -> bool:
    """Say yes: the command is not ours."""
    return bool(match)


# Commands that are not executed here, each with what must hold instead: make's
# targets run in CI, and test_project.py installs the wheel in an empty environment.
ELSEWHERE: dict[str, Callable[[re.Match[str]], bool]] = {
    r"make ([a-z]+)( ARGS=.*)?": is_target,
    r"""(?:python3? -m )?pip install (?:-e )?["']?([\w.-]+)(?:\[([\w,]*)\])?["']?""": (
        is_installable
    ),
    r"curl (?:-s )?(?:http://)?(?:localhost|127\.0\.0\.1):(\d+)/metrics.*": (
        is_metrics_port
    ),
    r"git clone https://\S+": is_anything,
    r"cd [\w-]+": is_anything,
    r"python3? -m venv \.venv": is_anything,
    r"(?:\.|source) \.venv/bin/activate": is_anything,
}
# Where the README shows what a command of ELSEWHERE prints, this is executed.
STAND_INS = {
    "make demo": shlex.join([sys.executable, str(ROOT / "examples/cascade/demo.py")]),
}
OURS = re.compile(
    r"export \w+=\S+|(?:\w+=\S* )*(?:resilience-instrument|resilience|python3?)\b.*"
)


class AnswersAll(http.server.BaseHTTPRequestHandler):
    """A proxy that answers 200 for every host, so that examples need no network."""

    def do_GET(self) -> None:
        """Answer with a little JSON."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - names of http.server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the output is the example's."""


@pytest.fixture(scope="module")
def proxy() -> Iterator[str]:
    """Serve the proxy on a loopback port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), AnswersAll) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class Reader:
    """Somebody who types what the README says, in a directory of their own.

    Args:
        directory: An empty directory, which gets the files that the README names.
        proxy: Where requests go that leave the machine.
    """

    def __init__(self, directory: Path, proxy: str) -> None:
        self.directory = directory
        path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
        self.env = {k: v for k, v in os.environ.items() if "RESILIENCE" not in k} | {
            "PATH": path,
            "http_proxy": proxy,
            "no_proxy": "localhost,127.0.0.1",
        }
        for block in BLOCKS:
            if name := FILE_NAME.match(block.text):
                (directory / name[1]).write_text(block.text, encoding="utf-8")

    def run(self, *command: str) -> str:
        """Run `command`, insist that it succeeds, and return what it said."""
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def check_python(self, block: Block) -> None:
        """Run a `python` block."""
        self.run(sys.executable, "-W", "error", "-c", block.text)

    def check_sh(self, block: Block) -> None:
        """Run the commands of a `sh` block, or see that each is true elsewhere."""
        here = [line for line in commands_of(block.text) if not is_elsewhere(line)]
        for command in here:
            assert OURS.fullmatch(command), f"what makes this true? {command}"
        self.run("sh", "-ec", "\n".join(here))

    def check_text(self, block: Block) -> None:
        """Check a `text` block against the catalogue or the commands above it."""
        lines = block.text.splitlines()
        if any(SAMPLE.fullmatch(line) for line in lines):
            assert [] == [line for line in lines if not is_exposed(line)]
            return
        above = [STAND_INS.get(line, line) for line in commands_of(block.above)]
        here = [line for line in above if not is_elsewhere(line)]
        said = plain(self.run("sh", "-ec", "\n".join(here)))
        shown = re.escape(plain(block.text)).replace(r"\.\.\.", ".*")
        assert re.search(shown, said, re.DOTALL), said

    def check_yaml(self, block: Block) -> None:
        """Have Prometheus's own tool read a `yaml` block."""
        promtool = str(monitoring.find("promtool"))
        self.run("sh", "-ec", block.above)
        (self.directory / "prometheus.yml").write_text(block.text, encoding="utf-8")
        said = self.run(promtool, "check", "config", "prometheus.yml")
        assert "SUCCESS" in said
        assert re.search(r"[1-9]\d* rules? found", said), said

    def check_mermaid(self, block: Block) -> None:
        """Leave a picture alone."""


def is_elsewhere(command: str) -> bool:
    """Say whether `command` is one of ELSEWHERE, and insist that it is true."""
    for pattern, holds in ELSEWHERE.items():
        if match := re.fullmatch(pattern, command):
            assert holds(match), f"this does not exist: {command}"
            return True
    return False


def plain(text: str) -> str:
    """Return `text` without what may differ: numbers, blank lines, columns."""
    numberless = re.sub(r"\d+(\.\d+)?", "0", text)
    lines = (" ".join(line.split()) for line in numberless.splitlines())
    return "\n".join(line for line in lines if line)


def is_exposed(line: str) -> bool:
    """Say whether the metrics port can show `line`."""
    if line in {"", "..."} or line.startswith(("# HELP ", "# TYPE ")):
        return True
    sample = SAMPLE.fullmatch(line)
    if sample is None:
        return False
    labels = labels_of_samples().get(sample[1])
    return labels is not None and labels == set(LABEL.findall(sample[2] or ""))


@pytest.fixture
def reader(tmp_path: Path, proxy: str) -> Reader:
    """Return a reader in an empty directory."""
    return Reader(tmp_path, proxy)


def check(reader: Reader, block: Block) -> None:
    """Check `block` as its language asks."""
    method = getattr(reader, f"check_{block.language or 'unnamed'}", None)
    assert method is not None, f"how is {block.language!r} checked? line {block.line}"
    method(block)


def marked(block: Block) -> ParameterSet:
    """Return `block` as a parameter: output that tells of seconds comes alone."""
    name = f"{block.language}-{block.line}"
    shows_output = block.language == "text" and any(c in block.above for c in STAND_INS)
    marks = [pytest.mark.alone, pytest.mark.long] if shows_output else []
    return pytest.param(block, id=name, marks=marks)


@pytest.mark.slow
@pytest.mark.parametrize("block", [marked(block) for block in BLOCKS])
def test_block_of_the_readme_is_true(reader: Reader, block: Block) -> None:
    """Each fenced block does what it says."""
    check(reader, block)


def test_readme_shows_how_to_start_an_app() -> None:
    """The one command that everybody needs is there."""
    scripts = [block.text for block in BLOCKS if block.language == "sh"]

    assert any("resilience-instrument python " in script for script in scripts)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        pytest.param("", "anything\n", id="no-language"),
        pytest.param("perl", "1;\n", id="unknown-language"),
        pytest.param("sh", "frobnicate\n", id="unknown-command"),
        pytest.param("sh", "make nothing\n", id="unknown-target"),
        pytest.param("sh", "pip install resilience\n", id="other-project"),
        pytest.param("sh", 'pip install ".[all]"\n', id="unknown-extra"),
        pytest.param("sh", "curl localhost:1/metrics\n", id="other-port"),
        pytest.param("sh", "python -c 'raise SystemExit(3)'\n", id="failing-command"),
        pytest.param("python", "import nothing_like_this\n", id="failing-python"),
        pytest.param("text", "api_requests_total 1\n", id="unknown-metric"),
        pytest.param("text", 'api_request_total{host="a"} 1\n', id="unknown-label"),
        pytest.param("text", "something else\n", id="other-output"),
    ],
)
def test_untrue_block_is_found(reader: Reader, language: str, text: str) -> None:
    """A block that is wrong in one of these ways does not pass."""
    block = Block(language, text, line=1, above="python -c 'print(1)'\n")

    with pytest.raises(AssertionError):
        check(reader, block)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        pytest.param("sh", "# first\n$ make test  # all\nmake lint\n", id="targets"),
        pytest.param("sh", 'pip install "resilience-instrument[demo]"\n', id="extra"),
        pytest.param(
            "sh",
            "export A=1\npython -c \\\n  'import os; os.environ[\"A\"]'\n",
            id="script",
        ),
        pytest.param("text", "it took\n...\n2.5 s\n", id="output"),
    ],
)
def test_true_block_passes(reader: Reader, language: str, text: str) -> None:
    """Blocks as a README has them are understood."""
    above = "python -c 'print(\"it  took\\n\\nonly\\n 31 s\")'\n"

    check(reader, Block(language, text, line=1, above=above))
