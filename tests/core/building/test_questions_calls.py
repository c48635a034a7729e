import json
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from PIL import Image

from polyvec.data.building.questions import calls
from polyvec.data.building.questions.answer_cache import AnswerCache, key_of
from polyvec.data.building.questions.calls import CallFailedError, Calls, StoppedError, Usage
from polyvec.data.building.questions.models import Answer

IMAGE = Image.new("RGB", (2, 2))


class Busy(Exception):
    status_code = 429
    response = SimpleNamespace(headers={"retry-after": "7"})


def calls_of(replies, *, name="model", cache=None, timeout=None, retries=0, max_failures=3):
    """Return calls of a model that gives or raises one reply after the other."""
    remaining = iter(replies)

    def ask(image, prompt):
        reply = next(remaining)
        if isinstance(reply, BaseException):
            raise reply
        return reply

    return Calls(
        ask, cache or AnswerCache(None), name=name, timeout=timeout, retries=retries, max_failures=max_failures
    )


@pytest.fixture
def pauses(monkeypatch):
    """What was waited for, without waiting."""
    waited = []
    pause = calls._pause
    monkeypatch.setattr(calls, "_pause", lambda *arguments: waited.append(pause(*arguments)) or 0.0)
    return waited


def ask(made, page="page", prompt="prompt"):
    return made.answer(page, lambda: IMAGE, prompt)


def test_answers_are_counted_and_cached(tmp_path):
    made = calls_of([Answer("a", 5, 2), Answer("b")], cache=AnswerCache(tmp_path / "answers"))
    assert [ask(made), ask(made), ask(made, prompt="other")] == ["a", "a", "b"]
    usage = made.usage
    assert (usage.calls, usage.cached, usage.input_tokens, usage.output_tokens) == (2, 1, 5, 2)
    again = calls_of([Answer("of another name")], cache=AnswerCache(tmp_path / "answers"))
    assert again.answer("page", lambda: pytest.fail("the picture is not drawn"), "prompt") == "a"
    assert ask(again, page="another") == "of another name"
    assert again.cached("page", "other") == "b"
    assert calls_of([], name="another model", cache=AnswerCache(tmp_path / "answers")).cached("page", "other") is None


def test_a_failure_is_not_cached_and_the_model_is_asked_again():
    made = calls_of([KeyError("choices"), Answer("a")])
    with pytest.raises(CallFailedError, match="KeyError: 'choices'"):
        ask(made)
    assert ask(made) == "a"
    assert (made.usage.calls, made.usage.failures, made.usage.retries) == (2, 1, 0)


def test_a_busy_model_is_asked_again_after_the_pause_that_it_names(pauses):
    made = calls_of([Busy(), ConnectionError(), Answer("a")], retries=2)
    assert ask(made) == "a"
    assert pauses == [7.0, 2.0]
    assert (made.usage.calls, made.usage.failures, made.usage.retries) == (3, 2, 2)
    with pytest.raises(CallFailedError, match="Error code: 429"):
        ask(calls_of([ValueError("Error code: 429"), ValueError("Error code: 429")], retries=1))
    with pytest.raises(CallFailedError, match="wrong key"):
        ask(calls_of([ValueError("wrong key"), Answer("never")], retries=1))


def test_failures_in_a_row_stop_all_calls():
    made = calls_of(
        [ValueError("no"), Answer("a"), ValueError("no"), ValueError("wrong key"), Answer("b")], max_failures=2
    )
    for page in ("0", "2"):
        with pytest.raises(CallFailedError):
            ask(made, page=page)
        if page == "0":
            assert ask(made, page="1") == "a", "an answer ends the row"
    with pytest.raises(StoppedError, match=r"2 calls in a row failed.*ValueError: wrong key"):
        ask(made, page="4")
    with pytest.raises(StoppedError):
        ask(made, page="5")
    made.start()
    assert ask(made, page="6") == "b"


def test_a_call_that_hangs_is_left_alone():
    release = threading.Event()
    made = Calls(
        lambda image, prompt: Answer("late") if prompt == "slow" and release.wait(60) else Answer("soon"),
        AnswerCache(None), name="m", timeout=0.05, retries=2, max_failures=9,
    )  # fmt: skip
    with pytest.raises(CallFailedError, match=r"no answer within 0\.05 seconds"):
        ask(made, prompt="slow")
    assert made.usage.calls == 1, "a call that hangs is not repeated"
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "polyvec-call")
    assert ask(made) == "soon"
    release.set()


def test_stopping_releases_whoever_waits():
    release, waiting = threading.Event(), threading.Event()

    def hang(image, prompt):
        waiting.set()
        release.wait(60)
        return Answer("late")

    made = Calls(hang, AnswerCache(None), name="m", timeout=60, retries=0, max_failures=9)
    with ThreadPoolExecutor() as pool:
        future = pool.submit(ask, made)
        waiting.wait(60)
        made.stop()
        with pytest.raises(StoppedError):
            future.result(timeout=10)
    release.set()
    assert made.usage == Usage()


def test_the_end_of_a_program_is_no_failure_of_a_call():
    with pytest.raises(SystemExit):
        ask(calls_of([SystemExit(3)], timeout=60))


def test_threads_share_a_cache(tmp_path):
    cache = AnswerCache(tmp_path / "answers")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: cache.put(key_of("k", f"{number}"), {"text": "\ud800" * number}), range(50)))
    other = AnswerCache(tmp_path / "answers")
    assert [len(other.get(key_of("k", f"{number}"))["text"]) for number in range(50)] == list(range(50))


def test_keys_tell_parts_apart():
    assert key_of("a", "bc") != key_of("ab", "c")


def test_no_other_file_becomes_a_cache(tmp_path):
    (tmp_path / "text").write_text(json.dumps({"a": 1}) * 99)
    with sqlite3.connect(tmp_path / "other") as other:
        other.execute("CREATE TABLE own (x)")
    other.close()
    for name in ("text", "other"):
        with pytest.raises(ValueError, match=f"`cache` is '.*{name}'.*Name another file"):
            AnswerCache(tmp_path / name)
    assert (tmp_path / "text").read_text().startswith('{"a"')


def test_a_cache_of_a_newer_version_is_refused(tmp_path):
    AnswerCache(tmp_path / "answers").close()
    with sqlite3.connect(tmp_path / "answers") as file:
        file.execute("PRAGMA user_version = 2")
    file.close()
    with pytest.raises(ValueError, match="a newer version of polyvec wrote it"):
        AnswerCache(tmp_path / "answers")


def test_a_cache_that_is_damaged_says_so(tmp_path):
    cache = AnswerCache(tmp_path / "answers")
    cache.put(b"k", {})
    with sqlite3.connect(tmp_path / "answers") as file:
        file.execute("UPDATE answers SET value = '{'")
    file.close()
    with pytest.raises(OSError, match="answers', which cannot be used for answers"):
        cache.get(b"k")
    with sqlite3.connect(tmp_path / "answers") as file:
        file.execute("DROP TABLE answers")
    file.close()
    with pytest.raises(OSError, match="no such table"):
        cache.put(b"k", {})
    with pytest.raises(ValueError, match="unable to open"):
        AnswerCache(tmp_path)
