"""What a fork must not break: a child has a copy of all memory, but only the thread that forked. No torch."""

import os
import threading
import weakref
from collections.abc import Callable
from functools import cache, partial

__all__ = ["lock", "one_thread"]

_locks: "weakref.WeakValueDictionary[int, threading.RLock]" = weakref.WeakValueDictionary()
_held: "list[threading.RLock]" = []  # by the thread that forks, during the fork
_at_fork: Callable[..., object] = getattr(os, "register_at_fork", dict)  # Windows has no forks


def lock() -> "threading.RLock":
    """Make a reentrant lock that is always free in a forked child, where another thread could never release it.

    A fork waits until no other thread holds the lock, so a child never has half of a change that the lock guards.
    """
    made = threading.RLock()
    _locks[id(made)] = made
    return made


@cache
def one_thread(set_num_threads: Callable[[int], None]) -> None:
    """Let forked children compute with one thread from now on; `set_num_threads` is torch's.

    OpenMP waits for ever for the threads of its parent, even if the parent only loaded weights.
    """
    _at_fork(after_in_child=partial(set_num_threads, 1))


def _hold() -> None:
    """Take all locks.

    The thread keeps what it has while it waits for the next lock: locks that are always busy are never free at the same
    time. But it gives up after a while, because other threads may nest locks in any order, and then waits longer.
    """
    global _held
    seconds = 0.01
    while True:
        held: list[threading.RLock] = []
        # `valuerefs` copies in one step, so other threads may make locks meanwhile.
        for candidate in filter(None, [reference() for reference in _locks.valuerefs()]):
            if not candidate.acquire(timeout=seconds):
                break
            held.append(candidate)
        else:
            _held = held
            return
        _release(held)
        seconds *= 2


def _release(held: "list[threading.RLock]") -> None:
    while held:
        held.pop().release()


_at_fork(before=_hold, after_in_parent=lambda: _release(_held), after_in_child=lambda: _release(_held))
