"""What a fork must not break: a child has a copy of all memory, but only the thread that forked. No torch."""

import os
import threading
import weakref
from collections.abc import Callable
from functools import cache, partial

__all__ = ["lock", "one_thread"]

_locks: "weakref.WeakSet[threading.RLock]" = weakref.WeakSet()
_held: "list[threading.RLock]" = []  # by the thread that forks, during the fork
_at_fork: Callable[..., object] = getattr(os, "register_at_fork", dict)  # Windows has no forks


def lock() -> "threading.RLock":
    """Make a reentrant lock that is always free in a forked child, where another thread could never release it.

    A fork waits until no other thread holds the lock, so a child never has half of a change that the lock guards.
    """
    made = threading.RLock()
    _locks.add(made)
    return made


@cache
def one_thread(set_num_threads: Callable[[int], None]) -> None:
    """Let forked children compute with one thread from now on; `set_num_threads` is torch's.

    OpenMP waits for ever for the threads of its parent, even if the parent only loaded weights.
    """
    _at_fork(after_in_child=partial(set_num_threads, 1))


def _hold() -> None:
    """Take all locks. The thread holds none while it waits, so other threads may nest them in any order."""
    global _held
    while True:
        held = []
        for candidate in list(_locks):
            if not candidate.acquire(blocking=False):
                break
            held.append(candidate)
        else:
            _held = held
            return
        _release(held)
        with candidate:
            pass


def _release(held: "list[threading.RLock]") -> None:
    while held:
        held.pop().release()


_at_fork(before=_hold, after_in_parent=lambda: _release(_held), after_in_child=lambda: _release(_held))
