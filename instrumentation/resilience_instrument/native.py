"""Threads and sleep as the interpreter has them, from before anybody patched them.

gevent and eventlet replace these names when the app asks for it. The boot stage
loads this module first, so that the agent's own thread stays a real one: it waits
for a lock in the kernel and would stop every greenlet if it were one.
"""

from __future__ import annotations

from _thread import RLock, allocate_lock
from _thread import start_new_thread as start_thread
from time import sleep

__all__ = ["RLock", "allocate_lock", "sleep", "start_thread"]
