"""Notice that the file has changed, during a call and once a second at most.

No thread and no signal: whoever calls next pays for one `stat`. A new file is
checked before it is used; one that cannot be used leaves everything as it was.
"""

from __future__ import annotations

import os
import threading
import time
import zlib
from typing import TYPE_CHECKING, Final, final

from resilience_instrument.config.load import examine
from resilience_instrument.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resilience_instrument.config.plan import Plan

INTERVAL: Final = 1.0
"""Seconds between two looks at the file."""

# A file written this short ago may be written again within one tick of its clock.
_FRESH: Final = 2.0

Stamp = tuple[int, int, int]


@final
class Watch:
    """Watches one file.

    Args:
        file: Its path.
        checksum: That of the content which is in use.
        environ: The variables, as they were when the process started.
        adopt: Takes a plan that is good.
        refuse: Takes what is wrong with one that is not.
    """

    __slots__ = (
        "_adopt",
        "_content",
        "_environ",
        "_file",
        "_lock",
        "_next",
        "_refuse",
        "_stamp",
    )

    def __init__(
        self,
        file: str,
        checksum: int | None,
        environ: Mapping[str, str],
        adopt: Callable[[Plan], None],
        refuse: Callable[[Exception], None],
    ) -> None:
        self._file = file
        self._environ = environ
        self._adopt = adopt
        self._refuse = refuse
        self._lock = threading.Lock()
        self._next = 0.0
        # No file's: the first look compares the content, whatever happened before.
        self._stamp: Stamp | None = (-1, -1, -1)
        self._content = checksum

    def look(self, now: float) -> None:
        """Look at the file, if it is time to; never raise and never wait.

        Args:
            now: The monotonic time.
        """
        if now < self._next or not self._lock.acquire(blocking=False):
            return
        try:
            self._next = now + INTERVAL
            self._look()
        except Exception as error:
            self._refuse(error)
        finally:
            self._lock.release()

    def renew_lock(self) -> None:
        """Replace the lock, in a child that was just forked."""
        self._lock = threading.Lock()

    def _look(self) -> None:
        stamp = self._stat()
        if stamp == self._stamp and not _is_fresh(stamp):
            return
        # The stamp is older than the content: a change in between is seen next time.
        self._stamp = stamp
        content = self._checksum()
        if content == self._content:
            return
        plan, findings = examine(self._environ, self._file)
        self._content = plan.checksum
        if findings:
            self._refuse(ConfigError(str(findings[0])))
        else:
            self._adopt(plan)

    def _stat(self) -> Stamp | None:
        try:
            status = os.stat(self._file)  # noqa: PTH116 - pathlib is not loaded for this
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _checksum(self) -> int | None:
        """Return a checksum of the content, None where there is none to read."""
        try:
            with open(self._file, "rb") as opened:  # noqa: PTH123 - as above
                return zlib.crc32(opened.read())
        except OSError:
            return None


def _is_fresh(stamp: Stamp | None) -> bool:
    return stamp is not None and time.time() - stamp[0] / 1e9 < _FRESH
