import io
import os
import pickle
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from qdrant_client import models

from polyvec.images import open_image
from polyvec.testing import HashEncoder
from polyvec.types import TASKS
from qdrant_polyvec import Collection, Failure, Item, UnstoredItems, limits, points
from qdrant_polyvec.checks import Checks
from qdrant_polyvec.items import content_hash, derived_id, point_id


def entries(inputs, **columns):
    return Checks(task="retrieval", tasks=TASKS, tenant=None).entries(inputs, **columns)


def test_ids_follow_from_source_unit_and_task():
    assert derived_id("a", "1", "code") == derived_id("a", "1", "code")
    others = [derived_id("a", "1", "code"), derived_id("a", "1", "retrieval"), derived_id("a", "", "code")]
    assert len({*others, derived_id("b", "1", "code"), derived_id("a\x001", "", "code")}) == 5


def test_the_ids_of_stored_points_never_change():
    # Fixed once: a release that derives other ids would store every document twice.
    assert derived_id("docs/a.md", "L1-2", "retrieval") == "9d3296fd-01bb-509d-b9e8-f75b82ad8f29"


def test_uuids_and_integers_stay_and_other_strings_become_uuids():
    name = uuid.uuid4()
    assert point_id(7) == 7
    assert point_id(str(name)) == str(name)
    assert uuid.UUID(point_id("page-1")).version == 5


@pytest.fixture
def memory():
    with Collection.open(":memory:", "docs", embedder=HashEncoder()) as docs:
        yield docs


NAME = "550e8400-e29b-41d4-a716-446655440000"
SPELLINGS = [NAME, NAME.upper(), NAME.replace("-", ""), f"{{{NAME}}}", f"urn:uuid:{NAME}"]


def test_each_spelling_of_a_uuid_is_an_id_of_its_own(memory):
    memory.add([f"text {n}" for n in range(5)], ids=SPELLINGS)
    assert [(one.id, one.content) for one in memory.get(SPELLINGS)] == [
        (x, f"text {n}") for n, x in enumerate(SPELLINGS)
    ]
    assert memory.delete(ids=SPELLINGS[1:], keep=SPELLINGS[2:3]) == 3
    assert sorted(one.id for one in memory.all()) == sorted([NAME, SPELLINGS[2]])


def test_an_item_that_an_earlier_version_stored_as_the_uuid_that_its_id_spells_stays_that_item(memory, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("qdrant_polyvec.checks.point_id", lambda identity, tenant: str(uuid.UUID(identity)))
        memory.add(["a fox"], ids=[NAME.upper()])
    others = [NAME, NAME.replace("-", "")]
    assert [one.id for one in memory.get([NAME.upper(), *others])] == [NAME.upper()]
    assert memory.add(["a fox"], ids=[NAME.upper()]).skipped == [NAME.upper()]
    assert memory.add(["a wolf"], ids=[NAME.upper()]).ok == [NAME.upper()]
    assert [(one.id, one.content) for one in memory.all()] == [(NAME.upper(), "a wolf")]
    refused = memory.add(["a whale", "an owl"], ids=others)
    assert refused.ok == others[1:]
    assert [(failure.id, "delete that item" in failure.reason) for failure in refused.failed] == [(NAME, True)]
    assert memory.reindex(HashEncoder(dim=16, multivector_dim=8, name="other")).failed == []
    assert sorted(one.content for one in memory.get([NAME.upper(), *others])) == ["a wolf", "an owl"]
    assert memory.delete(ids=[NAME.upper()]) == 1
    assert [one.id for one in memory.all()] == others[1:]


def test_a_source_that_is_no_string_stays_in_the_metadata_as_it_is(memory):
    sources = [3, ["a.md", "b.md"], {"url": "u"}, 3]
    report = memory.add(["fox", "wolf", "owl", "elk"], metadatas=[{"source": source} for source in sources])
    assert [one.metadata["source"] for one in memory.get(report.ok)] == sources
    assert [one.source for one in memory.get(report.ok)] == ["3", "['a.md', 'b.md']", "{'url': 'u'}", "3"]
    assert memory.sources() == {"3": 2, "['a.md', 'b.md']": 1, "{'url': 'u'}": 1}
    with pytest.raises(ValueError, match="its source is 'a', but its metadata says 3"):
        memory.add([Item("fox", source="a", metadata={"source": 3})])
    with pytest.raises(ValueError, match="its source is 3; a source is a string"):
        memory.add([Item("fox", source=3)])


@pytest.mark.parametrize("identity", [-1, 2**64, True, 1.5, None])
def test_other_ids_are_refused(identity):
    with pytest.raises(ValueError, match="is not an id"):
        point_id(identity)


def test_the_users_id_is_remembered_only_where_qdrants_differs():
    named, plain = entries(["a", "b"], ids=["page-1", 3])
    facts = {"fingerprint": "f", "n_tokens": 1, "grid": None}
    assert points.payload(named, **facts)["_polyvec"]["id"] == "page-1"
    assert "id" not in points.payload(plain, **facts)["_polyvec"]
    record = models.Record(id=point_id("page-1"), payload=points.payload(named, **facts))
    assert points.identity(record) == "page-1"


def test_a_content_without_source_is_named_by_its_hash(tmp_path):
    image = Image.new("RGB", (2, 3))
    sources = [item.source for item in entries(["a", b"a", image, Path("a") / "b.png"])]
    assert sources[0] == sources[1] == f"sha256:{content_hash('a')[:32]}"
    assert sources[2].startswith("sha256:")
    assert sources[3] == f"{Path.cwd().as_posix()}/a/b.png"


def test_threads_may_hash_an_image_that_is_not_decoded_yet(pictures):
    expected = content_hash(Image.open(pictures[0]).copy())
    with ThreadPoolExecutor(4) as threads:
        for _ in range(20):
            shared = Image.open(pictures[0])
            hashes = threads.map(content_hash, [shared] * 3)
            assert open_image(shared).size == (84, 56)
            assert set(hashes) == {expected}


def test_pixels_are_hashed_with_their_shape():
    wide, tall, gray = Image.new("RGB", (2, 3)), Image.new("RGB", (3, 2)), Image.new("L", (6, 3))
    assert len({content_hash(image) for image in (wide, tall, gray)}) == 3
    assert content_hash(wide) == content_hash(wide.copy())


def test_an_array_is_an_image_known_by_its_pixels():
    wide = np.arange(6, dtype=np.uint8).reshape(2, 3)
    others = [wide.reshape(3, 2), wide.view(np.int8), wide + np.uint8(1)]
    assert len({content_hash(array) for array in (wide, *others)}) == 4
    assert content_hash(wide) == content_hash(np.asfortranarray(wide)) == content_hash(wide.copy())
    (item,) = entries([wide])
    assert (item.kind, item.source) == ("image", f"sha256:{content_hash(wide)[:32]}")


def test_arrays_are_added_and_found(tmp_path):
    black, white = np.zeros((28, 28), np.uint8), np.ones((28, 28, 3))
    with Collection.open(tmp_path / "store", "images", embedder=HashEncoder()) as collection:
        report = collection.add([black, np.zeros((3, 28, 28), np.uint8), white])
        assert (len(report.ok), [failure.reason[:30] for failure in report.failed]) == (
            2,
            ["array of shape (3, 28, 28) and"],
        )
        assert len(collection.add([black.copy()]).skipped) == 1
        best = collection.search(Image.new("L", (28, 28), 255), limit=1)[0]
        assert (best.kind, best.id) == ("image", report.ok[1])


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is no regular file"):
        content_hash(tmp_path / "pipe")


def test_the_callers_metadata_is_not_touched():
    given = {"n": (1, 2)}
    (item,) = entries([Item("a", source="s")], metadatas=[given])
    assert given == {"n": (1, 2)}
    assert item.metadata == {"n": [1, 2], "source": "s"}


def test_an_item_of_another_kind_is_named():
    with pytest.raises(TypeError, match="item 1 is a int"):
        entries(["a", 3])


def test_batches_keep_order_and_bounds():
    assert list(limits.batches([3, 3, 3, 9, 1], lambda size: size, 6)) == [[3, 3], [3], [9], [1]]
    assert list(limits.batches([], lambda size: size, 6)) == []


def test_another_palette_is_another_image():
    image = Image.new("P", (2, 2))
    image.putpalette([255, 0, 0])
    other = image.copy()
    other.putpalette([0, 0, 255])
    assert content_hash(image) != content_hash(other)


def test_another_transparent_colour_is_another_image():
    image = Image.new("P", (2, 2))
    other = image.copy()
    other.info["transparency"] = 0
    assert content_hash(image) != content_hash(other)


def test_a_damaged_pil_image_loses_no_other_item():
    file = io.BytesIO()
    Image.new("L", (28, 28)).save(file, "AVIF")
    image = Image.open(io.BytesIO(file.getvalue()[:-3]))  # its decoder raises a SyntaxError
    with pytest.raises(OSError, match="it cannot be decoded"):
        content_hash(image)
    (first, second) = entries([image, "a"])
    assert (first.source, second.content) == ("unreadable image", "a")


def test_a_known_hash_is_not_computed_again(tmp_path, monkeypatch):
    file = tmp_path / "a.png"
    Image.new("RGB", (28, 28)).save(file)
    known = content_hash(file)
    with Collection.open(tmp_path / "store", "images", embedder=HashEncoder()) as collection:
        assert len(collection.add([file]).ok) == 1
        monkeypatch.setattr("qdrant_polyvec.checks.content_hash", lambda content: pytest.fail("was read"))
        assert len(collection.add([Item(file, content_hash=known)]).skipped) == 1
        with pytest.raises(ValueError, match="item 0: its `content_hash` is 'ab'; it must be a SHA-256"):
            collection.add([Item(file, content_hash="ab")])


def test_the_content_of_an_unnamed_item_is_hashed_once(monkeypatch):
    hashed = []
    monkeypatch.setattr("qdrant_polyvec.checks.content_hash", lambda content: hashed.append(content) or "0" * 64)
    (entry,) = entries([b"pixels"])
    assert (entry.source, entry.digest, hashed) == (f"sha256:{'0' * 32}", "0" * 64, [b"pixels"])


def test_a_failure_is_called_by_its_source_or_id():
    failures = [
        Failure(0, "a.md", "is gone.", "x"), Failure(1, "sha256:12", "is zero", 7), Failure(2, "", "is a int"),
    ]  # fmt: skip
    assert [str(failure) for failure in failures] == ["a.md: is gone", "7: is zero", "item 2: is a int"]
    error = UnstoredItems(failures, ["b"])
    assert (error.failures, error.ids, error.reasons[1]) == (tuple(failures), ["b"], "is zero")
    assert str(error) == (
        "3 of 4 items were not stored. a.md: is gone; 7: is zero; item 2: is a int. "
        "The others were: see `.ids` of this error."
    )
    again = pickle.loads(pickle.dumps(error))
    assert (again.failures, again.ids, str(again)) == (error.failures, error.ids, str(error))


def test_the_source_of_a_file_is_its_one_absolute_path(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (60, 40)).save("data/a.png")
    here = [Path("data/a.png"), Path("data/../data/a.png"), tmp_path / "data/a.png"]
    monkeypatch.chdir("data")
    written = Item(Path("a.png"), source="./a.png")
    monkeypatch.chdir(tmp_path)
    first, *others = entries(here)
    assert first.source == first.metadata["source"] == (tmp_path / "data/a.png").as_posix()
    assert {entry.id for entry in others} == {first.id}
    assert entries([written])[0].source == "./a.png"  # as the user wrote it


def test_content_that_no_index_can_keep_fails_alone(tmp_path):
    with Collection.open(tmp_path / "index", "docs", embedder=HashEncoder()) as docs:
        bad = tmp_path / os.fsdecode(b"m\xe9moire.png")
        for path in (bad, tmp_path / "good.png"):
            Image.new("RGB", (60, 40)).save(path)
        vectors = docs.embedder.encode_document(["x"], task="retrieval", multivector=True)
        items = [bad, tmp_path / "good.png", "fine", "\ud800", Item("\udce9", embedding=vectors, source="s")]
        report = docs.add(items)
        assert docs.count() == len(report.ok) == 2
        assert [(failure.index, failure.source) for failure in report.failed] == [
            (0, f"{tmp_path}/m\\udce9moire.png"),
            (3, ""),
            (4, "s"),
        ]
        assert report.failed[0].reason == "its name is not Unicode, so no index can keep it; rename it"
        assert all("lone surrogate at position 0" in failure.reason for failure in report.failed[1:])
        assert docs.add(iter(items)).failed == report.failed


def test_strings_that_are_not_unicode_are_told_as_such(tmp_path):
    where = models.Filter(must=[models.FieldCondition(key="metadata.x", match=models.MatchValue(value="\udce9"))])
    key = models.Filter(must_not=[models.IsEmptyCondition(is_empty=models.PayloadField(key="\udce9"))])
    with Collection.open(tmp_path / "index", "docs", embedder=HashEncoder()) as docs:
        for call in (
            lambda: docs.search("\udce9"),
            lambda: docs.search("red", filter=where),
            lambda: docs.search("red", filter=key),
            lambda: list(docs.all(where)),
            lambda: docs.delete_where(where),
            lambda: docs.delete(sources=["\udce9"]),
            lambda: docs.verify(sources=["\udce9"]),
            lambda: docs.get(["\udce9"]),
            lambda: docs.add(["red"], ids=["\udce9"]),
            lambda: docs.add([Item("red", unit="\udce9")]),
            lambda: docs.add([Item("red", payload={"x": "\udce9"})]),
            lambda: Collection.open(docs.client, "\udce9", embedder=None),
            lambda: Collection.open(docs.client, "docs", embedder=None, tenant="\udce9"),
        ):
            with pytest.raises(ValueError, match="lone surrogate"):
                call()
