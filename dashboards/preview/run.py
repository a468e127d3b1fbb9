"""See the dashboard: `python dashboards/preview/run.py`.

Plays the catalogue of outages, draws the dashboard with Grafana's own panels in
Chromium, checks the types of the dashboard and the colors of its tiles, and leaves
pictures in `build/preview/`. It needs node, npm, Chromium and 700 MB for packages: an
optional job, no part of the tests.
"""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "preview"
DASHBOARD = ROOT / "dashboards" / "resilience-api-health.json"
sys.path.insert(0, str(ROOT / "tests"))

# After these seconds stuck circuits, burns and flapping are there to see.
SEEN_AFTER = 20.0
# The color behind a text: that of the nearest ancestor that has one.
TILES = """() => [...document.querySelectorAll('[data-panel="Circuit breakers"] span')]
    .filter(span => ['OK', 'OPEN', 'HALF'].includes(span.textContent))
    .map(span => {
        let node = span, color = 'rgba(0, 0, 0, 0)';
        while (color === 'rgba(0, 0, 0, 0)' && node) {
            color = getComputedStyle(node).backgroundColor;
            node = node.parentElement;
        }
        return [span.textContent, color];
    })"""
EXPECTED = {"OK": "green", "OPEN": "red", "HALF": "yellow"}


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves the page and says nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def main() -> int:
    """Do it all and return the exit code."""
    prepare()
    faults = check_types()
    with tempfile.TemporaryDirectory() as directory:
        faults += show(Path(directory))
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    sys.stdout.write(f"pictures are in {BUILD.relative_to(ROOT)}\n")
    return 1 if faults else 0


def prepare() -> None:
    """Install the packages and bundle the page."""
    BUILD.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "build.mjs", "page.tsx", "index.html"):
        shutil.copy(HERE / name, BUILD)
    shutil.copy(DASHBOARD, BUILD / "dashboard.json")
    install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(install, cwd=BUILD, check=True)
    subprocess.run(["node", "build.mjs"], cwd=BUILD, check=True)


def check_types() -> list[str]:
    """Let TypeScript compare the dashboard with Grafana's published types."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    (BUILD / "check.ts").write_text(as_typescript(dashboard), encoding="utf-8")
    command = ["npx", "tsc", "--noEmit", "--strict", "--skipLibCheck"]
    command += ["--moduleResolution", "bundler", "--module", "esnext", "check.ts"]
    done = subprocess.run(
        command, cwd=BUILD, capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines() if done.returncode else []


# The published types have enums where JSON has their values.
PLAIN = """
type Plain<T> = T extends string ? `${T}`
  : T extends Array<infer U> ? Array<Plain<U>>
  : T extends object ? { [K in keyof T]: Plain<T[K]> }
  : T;
"""
TYPES = {
    "stat": "stat",
    "bargauge": "bargauge",
    "timeseries": "timeseries",
    "state-timeline": "statetimeline",
    "heatmap": "heatmap",
    "table": "table",
}


def as_typescript(dashboard: dict[str, Any]) -> str:
    """Return a program that compiles if the dashboard has Grafana's types."""
    raw = "./node_modules/@grafana/schema/dist/types/raw"
    names = "{ Dashboard, Panel, RowPanel }"
    lines = [f"import type {names} from '{raw}/dashboard/x/types.gen';"]
    lines += [
        f"import type * as {name} from '{raw}/composable/{name}/panelcfg/x/types.gen';"
        for name in TYPES.values()
    ]
    lines.append(PLAIN)
    rest = {key: value for key, value in dashboard.items() if key != "panels"}
    for annotation in rest["annotations"]["list"]:
        # Of the data source of Prometheus, not of the dashboard.
        for name in ("target", "titleFormat"):
            annotation.pop(name, None)
    lines.append(
        f"export const dashboard: Plain<Partial<Dashboard>> = {json.dumps(rest)};"
    )
    for panel in dashboard["panels"]:
        number = panel["id"]
        if panel["type"] == "row":
            text = json.dumps(panel)
            lines.append(
                f"export const row{number}: Plain<Partial<RowPanel>> = {text};"
            )
            continue
        own = {key: value for key, value in panel.items() if key != "options"}
        # The one option that only Grafana 10.0 knows.
        panel["options"].get("tooltip", {}).pop("show", None)
        options = json.dumps(panel["options"])
        kind = TYPES[panel["type"]]
        lines.append(
            f"export const p{number}: Plain<Partial<Panel>> = {json.dumps(own)};"
        )
        lines.append(
            f"export const o{number}: Plain<Partial<{kind}.Options>> = {options};"
        )
        custom = panel["fieldConfig"]["defaults"].get("custom")
        if custom is not None:
            text = json.dumps(custom)
            lines.append(
                f"export const c{number}: Plain<Partial<{kind}.FieldConfig>> = {text};"
            )
    return "\n".join(lines) + "\n"


def show(directory: Path) -> list[str]:
    """Play the outages, draw the dashboard, and return what is wrong with it."""
    from bundle.play import Play, steady  # noqa: PLC0415 - needs the path above
    from bundle.upstreams import Upstream  # noqa: PLC0415 - likewise

    handler = functools.partial(Quiet, directory=str(BUILD))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    play = Play(directory)
    # Opens its circuit and is then called no more: half-open, with nobody to probe.
    left = Upstream(None)
    try:
        play.start(steady(f"http://{left.service}/", calls=8))
        time.sleep(SEEN_AFTER)
        page = f"http://127.0.0.1:{server.server_address[1]}/index.html"
        # A browser that starts takes all there is: the pictures show what was before.
        return look(f"{page}?prometheus={play.stack.url}&now={time.time()}")
    finally:
        play.close()
        left.close()
        server.shutdown()


def look(url: str) -> list[str]:
    """Take the pictures and check the tiles."""
    faults: list[str] = []

    def broken(error: object) -> None:
        faults.append(f"page: {error}")

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for theme in ("dark", "light"):
            page = browser.new_page(viewport={"width": 1530, "height": 1200})
            page.on("pageerror", broken)
            page.goto(f"{url}&theme={theme}")
            page.wait_for_function("document.title === 'ready'", timeout=60_000)
            page.screenshot(path=str(BUILD / f"{theme}.png"), full_page=True)
            faults += tiles(page) + page.locator(".fault").all_inner_texts()
        browser.close()
    return faults


def tiles(page: Page) -> list[str]:
    """Return the tiles whose color is not that of their state."""
    palette = page.evaluate("window.palette")
    shown = page.evaluate(TILES)
    faults = [
        f"no tile says {state}"
        for state in EXPECTED
        if state not in {text for text, _ in shown}
    ]
    for text, color in shown:
        wanted = f"rgb({', '.join(map(str, rgb(palette[EXPECTED[text]])))})"
        if color != wanted:
            faults.append(f"the tile {text} is {color}, not {wanted}")
    return faults


def rgb(color: str) -> tuple[int, int, int]:
    """Return the parts of a color such as `#73BF69`."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue


if __name__ == "__main__":
    sys.exit(main())
