"""Calls of a model: cached, with a time limit, tries again when the model is busy, and an end to a row of failures."""

import contextvars
import queue
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from PIL import Image

from polyvec.data.building.questions.answer_cache import AnswerCache, key_of
from polyvec.data.building.questions.models import Answer, Ask

__all__ = ["CallFailedError", "Calls", "StoppedError", "Usage"]

_BUSY = (408, 429, 500, 502, 503, 504, 529)  # HTTP: try again later
_BUSY_WORDS = r"\b429\b|too many requests|rate.?limit|overloaded|temporarily unavailable"
_LONGEST_PAUSE = 60.0  # seconds


class CallFailedError(Exception):
    """A model gave no answer: it raised an error, or took too long."""


class StoppedError(ValueError):
    """Too many calls in a row failed, so that no more are made."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What was taken from a model.

    Attributes:
        calls: that were made, with those that failed.
        cached: answers that were there already.
        retries: calls that repeated one which failed.
        failures: calls that gave no answer.
        seconds: that calls took, added up.
        input_tokens: of the calls whose model told them.
        output_tokens: likewise.
    """

    calls: int = 0
    cached: int = 0
    retries: int = 0
    failures: int = 0
    seconds: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0


class Calls:
    """Asks a model, unless the answer is in the cache. Threads may share it.

    Each call runs in a daemon thread of its own if there is a time limit. Python cannot end a thread: after the limit
    the thread is left alone, its answer is dropped, and it ends with its call or with the process. A model of an API
    may charge for such a call.
    """

    def __init__(
        self, ask: Ask, cache: AnswerCache, *, name: str, timeout: float | None, retries: int, max_failures: int
    ) -> None:
        """Choose a model and limits.

        Args:
            ask: asks the model.
            cache: of answers.
            name: of the model: whose answers of the cache count.
            timeout: seconds for a call; None for no limit.
            retries: calls after one that failed as the model was busy, after a pause.
            max_failures: calls in a row that may fail.
        """
        self._ask, self._cache, self._name = ask, cache, name
        self._timeout, self._retries, self._max_failures = timeout, retries, max_failures
        self._lock = threading.Lock()
        self._usage = Usage()
        self._n_failed = 0  # in a row
        self._stopped = threading.Event()
        self._waiting: set[queue.SimpleQueue[Answer | BaseException]] = set()

    @property
    def usage(self) -> Usage:
        """What was taken so far."""
        return self._usage

    def cached(self, page: str, prompt: str) -> str | None:
        """Return an answer if it is in the cache."""
        value = self._cache.get(key_of(self._name, page, prompt))
        return None if value is None else str(value["text"])

    def answer(self, page: str, picture: Callable[[], Image.Image], prompt: str) -> str:
        """Return what the model says about a page.

        Args:
            page: what tells the picture from all others: its file's content and how it is rendered.
            picture: makes the picture; it is not called if the answer is in the cache.
            prompt: text that goes with the picture.

        Raises:
            CallFailedError: there is no answer.
            StoppedError: there were too many failures in a row, or `stop` was called.
        """
        text = self.cached(page, prompt)
        if text is not None:
            self._count(cached=1)
            return text
        answer = self._called(picture(), prompt)
        value = {"text": answer.text, "input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens}
        self._cache.put(key_of(self._name, page, prompt), value)
        return answer.text

    def start(self) -> None:
        """Allow calls, also after `stop`."""
        self._n_failed = 0
        self._stopped.clear()

    def stop(self) -> None:
        """Make no more calls; those that wait for an answer give up."""
        self._stopped.set()
        with self._lock:
            for replies in self._waiting:
                replies.put(StoppedError("calls were stopped."))

    def _called(self, image: Image.Image, prompt: str) -> Answer:
        n_tries = 0
        while True:
            self._check_stopped()
            start = time.monotonic()
            reply = self._reply(image, prompt)
            seconds = time.monotonic() - start
            if isinstance(reply, Answer):
                self._n_failed = 0
                tokens = {"input_tokens": reply.input_tokens or 0, "output_tokens": reply.output_tokens or 0}
                self._count(calls=1, seconds=seconds, **tokens)
                return reply
            if not isinstance(reply, Exception) or isinstance(reply, StoppedError):
                raise reply
            self._count(calls=1, failures=1, seconds=seconds)
            if n_tries == self._retries or not _is_busy(reply):
                raise self._failure(reply) from reply
            self._stopped.wait(_pause(reply, n_tries))
            n_tries += 1
            self._count(retries=1)

    def _failure(self, error: Exception) -> CallFailedError | StoppedError:
        with self._lock:
            self._n_failed += 1
        late = isinstance(error, CallFailedError)
        shown = str(error) if late else f"{type(error).__name__}: {error}".rstrip(": ")
        if self._n_failed < self._max_failures:
            return CallFailedError(shown)
        return StoppedError(
            f"{self._n_failed} calls in a row failed, so no more are made; the last: {shown}. What was answered is in "
            "the cache: run the same again when the fault is mended."
        )

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise StoppedError("calls were stopped.")
        if self._n_failed >= self._max_failures:
            raise StoppedError(f"{self._n_failed} calls in a row failed, so no more are made.")

    def _reply(self, image: Image.Image, prompt: str) -> Answer | BaseException:
        if self._timeout is None:
            return _caught(partial(self._ask, image, prompt))
        replies: queue.SimpleQueue[Answer | BaseException] = queue.SimpleQueue()
        with self._lock:
            self._waiting.add(replies)
        try:
            context = contextvars.copy_context()
            call = partial(_caught, partial(self._ask, image, prompt))
            threading.Thread(target=lambda: replies.put(context.run(call)), name="polyvec-call", daemon=True).start()
            return replies.get(timeout=self._timeout)
        except queue.Empty:
            return CallFailedError(f"no answer within {self._timeout:g} seconds")
        finally:
            with self._lock:
                self._waiting.discard(replies)

    def _count(self, **more: float) -> None:
        with self._lock:
            self._usage = replace(
                self._usage, **{name: getattr(self._usage, name) + number for name, number in more.items()}
            )


def _caught(call: Callable[[], Answer]) -> Answer | BaseException:
    try:
        return call()
    except BaseException as error:  # noqa: BLE001 — a user's function may raise anything; it is counted or raised again
        return error


def _is_busy(error: Exception) -> bool:
    """Whether another try may help: a limit of rates, a busy server, a connection that broke."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    status = status or getattr(response, "status_code", None)
    text = f"{type(error).__name__} {error}".lower()
    return status in _BUSY or re.search(_BUSY_WORDS, text) is not None


def _pause(error: Exception, n_tries: int) -> float:
    """Return the seconds that the server asks for, or else 1, 2, 4 and so on."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    told = str(headers.get("retry-after", ""))  # it may be a date
    return min(float(told) if told.isdecimal() else 2.0**n_tries, _LONGEST_PAUSE)
