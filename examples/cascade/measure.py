"""Puts a load on A and watches the circuits, in the demo's own process.

The load is open: requests come at their times whether A answers or not, as those of
people do.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from figures import (
    ORDERS,
    Answer,
    Change,
    Step,
    order_changes,
    read_changes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST: Final = "127.0.0.1"
PATIENCE: Final = 5.0
_A_SECOND: Final = 32
_ORDERS_OF_FOUR: Final = 3
_EVERY: Final = 0.1


async def get(port: int, path: str, patience: float = PATIENCE) -> tuple[int, str]:
    """Return status and body of one GET, status 0 if no answer came in time."""
    writer = None
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    except (OSError, TimeoutError):
        return 0, ""
    finally:
        if writer is not None:
            writer.close()
    words = head.split(maxsplit=2)
    return (int(words[1]) if len(words) > 1 else 0), body.decode()


class Load:
    """People who want something of A, 32 a second, and wait 5 s at most.

    Args:
        port: Where A listens.
        group: Where the requests run; it ends if one of them has a fault.
    """

    def __init__(self, port: int, group: asyncio.TaskGroup) -> None:
        self.answers: list[Answer] = []
        self.began = time.time()
        self._start = time.monotonic()
        self._port = port
        self._group = group
        self._waiting: dict[asyncio.Task[None], tuple[str, float]] = {}

    def elapsed(self) -> float:
        """Return the seconds since the story began."""
        return time.monotonic() - self._start

    async def send(self) -> None:
        """Send one request after the other, each at its time."""
        for number, path in enumerate(_paths()):
            await asyncio.sleep(number / _A_SECOND - self.elapsed())
            sent = self.elapsed()
            task = self._group.create_task(self._ask(path, sent))
            self._waiting[task] = path, sent
            task.add_done_callback(self._waiting.pop)

    async def _ask(self, path: str, sent: float) -> None:
        status, _ = await get(self._port, path)
        self.answers.append(Answer(path, sent, self.elapsed() - sent, status))

    def close(self) -> None:
        """Give up what is still waiting: it has waited as long as it has."""
        now = self.elapsed()
        for task, (path, sent) in self._waiting.items():
            task.cancel()
            self.answers.append(Answer(path, sent, now - sent, 0))

    def pulse(self) -> str:
        """Say how A did lately, of what was sent long enough ago to be judged."""
        now = self.elapsed()
        lately = [a for a in self.answers if now - 2 <= a.sent < now - 1]
        late = [s for _, s in self._waiting.values() if now - 2 <= s < now - 1]
        good = sum(a.is_in_time for a in lately)
        total = len(lately) + len(late)
        return f"A answered {good} of {total} within 1 s" if total else ""


def _paths() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"{ORDERS}/{number}" if number % 4 < _ORDERS_OF_FOUR else "/products"


class Watch:
    """Reads from a metrics port what a circuit did.

    Args:
        port: Where the metrics are served.
        load: Whose clock it goes by.
    """

    def __init__(self, port: int, load: Load) -> None:
        self.port = port
        self.steps: list[Step] = []
        self.answered = False
        self._load = load
        self._seen: Counter[Change] = Counter()
        self._state = "closed"

    async def follow(self) -> None:
        """Look again and again."""
        while True:
            await self.look()
            await asyncio.sleep(_EVERY)

    async def look(self) -> None:
        """Ask the port once; one that does not answer is asked again later."""
        status, body = await get(self.port, "/metrics", patience=1.0)
        if status == 200:
            self.answered = True
            self.notice(read_changes(body))

    def notice(self, changes: Counter[Change]) -> None:
        """Note which of all changes so far came since the last time."""
        for change in order_changes(changes - self._seen, self._state):
            self.steps.append(Step(self._load.elapsed(), change))
            self._state = change[1]
        self._seen = changes

    @property
    def did_its_work(self) -> bool:
        """Whether the circuit opened, and was closed in the end."""
        opened = any(step.change[1] == "open" for step in self.steps)
        return opened and self._state == "closed"
