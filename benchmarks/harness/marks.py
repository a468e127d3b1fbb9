"""Tell the counter outside where the calls begin and end.

Valgrind reads requests out of the instructions that it simulates: a sequence that
does nothing on a real processor. It stands here as machine code, so that counting
needs no compiler and starts only when everything is loaded, which is ten times
faster than counting from the start.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
from typing import Final, Protocol, final

# The calling convention of Linux on x86-64: the request's address comes in RDI, its
# answer leaves in RAX. The four rotations and the exchange are Valgrind's preamble.
_X86_64: Final = bytes.fromhex(
    "4889f8"  # mov rax, rdi
    "31d2"  # xor edx, edx
    "48c1c703 48c1c70d 48c1c73d 48c1c733"  # rol rdi, 3 / 13 / 61 / 51
    "4887db"  # xchg rbx, rbx
    "4889d0"  # mov rax, rdx
    "c3"  # ret
)
_CALLGRIND: Final = ord("C") << 24 | ord("T") << 16
_DUMP: Final = _CALLGRIND
_START: Final = _CALLGRIND + 4


class Marks(Protocol):
    """Where the measured calls begin and end."""

    @property
    def options(self) -> list[str]:
        """What Valgrind has to be told to hear them."""
        ...

    @property
    def preface(self) -> int:
        """How many parts of the output belong to what came before."""
        ...

    def begin(self) -> None:
        """Start to count."""
        ...

    def cut(self) -> None:
        """Write down what was counted, and count from 0 again."""
        ...


@final
class Requests:
    """Marks that Valgrind understands at once, on x86-64."""

    options: Final = ["--instr-atstart=no"]
    preface: Final = 0

    def __init__(self) -> None:
        self._page = mmap.mmap(
            -1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        )
        self._page.write(_X86_64)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        self._ask = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)(address)

    def begin(self) -> None:
        """Start to count."""
        self._request(_START)

    def cut(self) -> None:
        """Write down what was counted, and count from 0 again."""
        self._request(_DUMP)

    def _request(self, code: int) -> None:
        words = (ctypes.c_ulong * 6)(code)
        self._ask(ctypes.addressof(words))


@final
class Calls:
    """Marks for every other processor: calls of a function that nobody else calls."""

    options: Final = ["--dump-before=getppid"]
    preface: Final = 1

    def begin(self) -> None:
        """Begin a part; it was counted all along."""
        os.getppid()

    def cut(self) -> None:
        """Begin the next part."""
        os.getppid()


def marks() -> Marks:
    """Return the marks that work on this machine."""
    return Requests() if platform.machine() == "x86_64" else Calls()
