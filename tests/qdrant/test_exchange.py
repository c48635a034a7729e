"""`reindex` is interrupted at every sixth of its requests (`EVERY`), and others write through the alias at them."""

import threading
from contextlib import contextmanager

import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from polyvec.testing import HashEncoder
from qdrant_polyvec import Collection, FingerprintError, Schema, exchange, open_client, upload
from qdrant_polyvec.clients import backend
from qdrant_polyvec.errors import CollectionChangedError
from qdrant_polyvec.fingerprint import REPLACED_BY, REPLACES

OLD = HashEncoder(dim=4, multivector_dim=2, name="old")
NEW = HashEncoder(dim=6, multivector_dim=3, name="new")
THIRD = HashEncoder(dim=8, multivector_dim=3, name="third")
TEXTS = {"a": "red fox", "b": "blue whale", "c": "white owl", "d": "grey hawk"}


EVERY = 6  # requests, to be fast; 1 interrupts at each


class Watched:
    """Calls `before` at one request of those made inside `watching`, but not at those that `before` makes."""

    def __init__(self, client):
        self.client, self.n, self.at, self.before = client, 0, None, None
        self._mutex, self._inside = threading.Lock(), threading.local()
        behind = backend(client)
        for name in vars(QdrantBase):
            if not name.startswith("_") and name != "close":
                setattr(behind, name, self._watched(getattr(behind, name)))

    def _watched(self, call):
        def watched(*args, **options):
            if self.before is not None and not getattr(self._inside, "it", False):
                with self._mutex:
                    self.n += 1
                    is_now = self.n == self.at
                if is_now:
                    self._inside.it = True
                    try:
                        self.before()
                    finally:
                        self._inside.it = False
            return call(*args, **options)

        return watched

    @contextmanager
    def watching(self, at, before):
        self.n, self.at, self.before = 0, at, before
        try:
            yield
        finally:
            self.before = None


def opened(client):
    try:
        return Collection.open(client, "docs", embedder=OLD)
    except FingerprintError:
        return Collection.open(client, "docs", embedder=NEW)


def contents(client):
    return {item.id: item.content for item in opened(client).all()}


def names(client):
    return sorted(one.name for one in client.get_collections().collections)


def facts(client):
    """The collections, and the keys of an exchange that they have."""
    return {name: {REPLACES, REPLACED_BY} & set(client.get_collection(name).config.metadata) for name in names(client)}


@pytest.fixture
def client(tmp_path):
    client = open_client(tmp_path / "index")
    yield client
    client.close()


def start(client):
    """Make the collection anew."""
    for name in names(client):
        client.delete_collection(name)
    docs = Collection.open(client, "docs", embedder=OLD)
    docs.add(list(TEXTS.values()), ids=list(TEXTS))
    return docs


def others(client, number):
    """Add, change, change the metadata of, and delete, through the alias. Returns what is there then of these items."""
    docs = opened(client)
    assert docs.add([f"new {number}"], ids=[f"n{number}"]).failed == []
    docs.add(["changed"], ids=["a"])
    docs.add([TEXTS["c"]], ids=["c"], metadatas=[{"n": number}])
    docs.delete(ids=["b"])


def after_others(number):
    return {"a": "changed", "c": TEXTS["c"], "d": TEXTS["d"], f"n{number}": f"new {number}"}


class Stop(BaseException):
    """The end of the process."""


def stop():
    raise Stop


def every_request(watched, docs_of, before, then, first):
    """Reindex with `before` called at each request in turn. `then` checks each. Returns the number of requests."""
    number = first - EVERY
    while True:
        number += EVERY
        docs = docs_of()
        interrupted = False
        with watched.watching(number, before):
            try:
                docs.reindex(NEW, batch_size=2)
            except Stop:
                interrupted = True
            n = watched.n
        if n < number:
            return n
        then(interrupted)


@pytest.mark.parametrize("first", [2])
def test_others_may_write_in_the_middle_of_a_reindex(client, first):
    def then(interrupted):
        assert contents(client) == after_others(1)
        assert opened(client).get(["c"])[0].metadata["n"] == 1
        assert list(facts(client).values()) == [set()]

    assert every_request(Watched(client), lambda: start(client), lambda: others(client, 1), then, first) > 20


@pytest.mark.parametrize("first", [3])
def test_an_interruption_is_finished_by_another_call(client, first):
    def before():
        others(client, 1)
        stop()

    def then(interrupted):
        assert interrupted
        docs = opened(client)
        docs.add(["changed again"], ids=["a"])
        docs.add([TEXTS["b"]], ids=["b"])  # was deleted
        docs.delete(ids=["d"])
        docs.delete_where(
            models.Filter(must=[models.FieldCondition(key="metadata.n", match=models.MatchValue(value=1))])
        )
        docs.add(["new 2"], ids=["n2"])
        try:
            opened(client).reindex(NEW)
        except ValueError as error:
            assert "nothing to do" in str(error)  # noqa: PT017 — only the last step may be done already
        rest = {"a": "changed again", "b": TEXTS["b"], "n1": "new 1", "n2": "new 2"}  # c has the metadata n = 1
        assert contents(client) == rest
        assert opened(client).embedder is NEW
        assert list(facts(client).values()) == [set()]

    assert every_request(Watched(client), lambda: start(client), before, then, first) > 20


@pytest.mark.parametrize("action", ["add", "delete"])
def test_a_reindex_may_run_at_every_request_of_another_call(client, action):
    watched, number = Watched(client), 0
    while True:
        number += 1
        docs, told = start(client), None
        other = Collection.open(client, "docs", embedder=OLD)
        with watched.watching(number, lambda docs=docs: docs.reindex(NEW)):
            try:
                stored = other.add(["new"], ids=["n"]).ok if action == "add" else [other.delete(ids=["a"])]
            except (CollectionChangedError, FingerprintError) as error:
                told, stored = error, []
        if watched.n < number:
            break
        assert told is None or action == "add"
        if action == "delete":
            assert contents(client) == {key: text for key, text in TEXTS.items() if key != "a"}
        else:
            assert stored == [] or contents(client) == {**TEXTS, "n": "new"}
    assert number > 4


@pytest.fixture
def unfinished(client):
    """A collection whose `reindex` was interrupted just after the exchange, with a late item."""
    docs = start(client)
    watched = Watched(client)
    (old,) = names(client)
    move = backend(client).update_collection_aliases

    def moving(*args, **options):
        docs.add(["late"], ids=["l"])
        move(*args, **options)
        stop()

    backend(client).update_collection_aliases = moving
    with watched.watching(0, lambda: None), pytest.raises(Stop):
        docs.reindex(NEW)
    backend(client).update_collection_aliases = move
    return old, opened(client)


def test_verify_tells_of_an_unfinished_exchange_and_leftovers_are_deleted_but_for_it(client, unfinished):
    old, docs = unfinished
    client.create_collection("docs__mine", {"dense": models.VectorParams(size=2, distance="Dot")})
    of_dates = {"dense": models.VectorParams(size=2, distance="Dot")}
    client.create_collection("docs__20241201", of_dates)  # somebody's own
    client.create_collection("docs__0123abcd", of_dates, metadata=client.get_collection(old).config.metadata)
    found = docs.verify()
    assert (found.leftovers, found.unfinished) == (sorted(["docs__0123abcd", old]), old)
    assert docs.delete_leftovers() == ["docs__0123abcd"]
    assert {old, "docs__mine", "docs__20241201"} < set(names(client))
    assert docs.reindex(NEW).ok == ["l"]
    assert docs.verify().ok
    assert contents(client) == {**TEXTS, "l": "late"}
    with pytest.raises(ValueError, match="nothing to do"):
        docs.reindex(NEW)


def test_another_model_is_refused_while_an_exchange_is_unfinished(client, unfinished):
    old, docs = unfinished
    before = names(client)
    with pytest.raises(ValueError, match=rf"'{old}' is still to be brought over.*present model and schema first"):
        docs.reindex(THIRD)
    assert names(client) == before
    docs.reindex(NEW)
    assert "l" in docs.reindex(THIRD).ok


def test_what_is_kept_deliberately_is_no_unfinished_exchange(client, unfinished):
    old, docs = unfinished
    docs.reindex(NEW, keep_old=True)
    assert (docs.verify().unfinished, docs.verify().leftovers) == (None, [old])
    assert set().union(*facts(client).values()) == set()
    with pytest.raises(ValueError, match="nothing to do"):
        docs.reindex(NEW)
    assert docs.delete_leftovers() == [old]


def test_an_interrupted_creation_is_a_leftover_that_can_be_deleted(client):
    docs = start(client)
    with Watched(client).watching(25, stop), pytest.raises(Stop):
        docs.reindex(NEW)
    assert docs.verify().unfinished is None
    (new,) = docs.verify().leftovers
    assert docs.delete_leftovers() == [new]
    assert facts(client) == {name: set() for name in names(client)}


def test_a_change_of_the_schema_alone_is_finished_too(client):
    def before():
        opened(client).add(["late"], ids=["a"])
        stop()

    watched = Watched(client)
    for number in range(22, 60, 8):
        docs = start(client)
        with watched.watching(number, before):
            try:
                docs.reindex(OLD, schema=Schema(late="float32"))
            except Stop:
                pass
            else:
                break
        docs = Collection.open(client, "docs", embedder=OLD)
        try:
            docs.reindex(OLD, schema=Schema(late="float32"))
        except ValueError as error:
            assert "nothing to do" in str(error)  # noqa: PT017 — the last step may be done already
        assert contents(client) == {**TEXTS, "a": "late"}
        assert list(facts(client).values()) == [set()]


def test_over_rest_an_interruption_is_finished(rest):
    client = rest.client()
    docs = start(client)

    def before():
        opened(client).add(["changed"], ids=["a"])
        opened(client).delete(ids=["b"])
        stop()

    watched = Watched(client)
    for number in (25, 29, 33, 36):
        docs = start(client)
        with watched.watching(number, before), pytest.raises(Stop):
            docs.reindex(NEW)
        try:
            opened(client).reindex(NEW)
        except ValueError as error:
            assert "nothing to do" in str(error)  # noqa: PT017 — the last step may be done already
        assert contents(client) == {"a": "changed", "c": TEXTS["c"], "d": TEXTS["d"]}
        assert list(facts(client).values()) == [set()]


@pytest.mark.parametrize("bad", [b"no image", None])
def test_an_add_that_fails_leaves_what_is_late(client, unfinished, bad, monkeypatch):
    _, docs = unfinished
    if bad is None:  # killed before anything is written
        monkeypatch.setattr(upload, "write", lambda *_, **__: stop())
        with pytest.raises(Stop):
            docs.add(["newer"], ids=["l"])
        monkeypatch.undo()
    else:
        assert [failure.id for failure in docs.add([bad], ids=["l"], on_failure="report").failed] == ["l"]
    docs.reindex(NEW)
    assert contents(client) == {**TEXTS, "l": "late"}


def test_an_add_during_an_unfinished_exchange_is_newer(client, unfinished):
    _, docs = unfinished
    docs.add(["newer", TEXTS["a"]], ids=["l", "a"])
    docs.reindex(NEW)
    assert contents(client) == {**TEXTS, "l": "newer"}


def test_a_reindex_that_another_one_overtakes_ends_and_takes_nothing_away(client, monkeypatch):
    docs = start(client)

    def overtake():
        monkeypatch.undo()
        Collection.open(client, "docs", embedder=OLD).reindex(THIRD)
        Collection.open(client, "docs", embedder=THIRD).add(["x"], ids=["x"])

    monkeypatch.setattr(exchange, "delete_vanished", lambda *_: overtake() or [])
    with pytest.raises(CollectionChangedError, match="exchanged by another `reindex` meanwhile"):
        docs.reindex(NEW)
    assert {item.id for item in Collection.open(client, "docs", embedder=THIRD).all()} == {*TEXTS, "x"}
