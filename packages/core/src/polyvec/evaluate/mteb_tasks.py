"""Tasks that mteb does not have: Jina-VDR in the QA format, which the paper used, and XTD10 from a folder.

Each is a retrieval task of mteb, so both models run on it and its results resume. The extra `evaluate` has mteb.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyvec.evaluate.benchmarks import QA_SUFFIX

__all__ = ["Split", "qa_split", "qa_task", "retrieval_task", "xtd10_splits", "xtd10_task"]

XTD10_LANGUAGES = {
    "de": "deu-Latn", "en": "eng-Latn", "es": "spa-Latn", "fr": "fra-Latn", "it": "ita-Latn", "ko": "kor-Hang",
    "pl": "pol-Latn", "ru": "rus-Cyrl", "tr": "tur-Latn", "zh": "zho-Hans",
}  # fmt: skip

_QA_NAMES = {"hungarian_doc_qa": "hungarian_doc_qa_hu", "mpmqa_small": "mpmqa-small"}  # that are not the BEIR name
_SAME_FILE = "\0"  # divides the name of a file from the number of its other images


@dataclass(frozen=True, slots=True)
class Split:
    """The data of a retrieval task in one subset; `queries` and `corpus` are Datasets with the column `id`."""

    queries: Any
    corpus: Any
    relevant: Mapping[str, Mapping[str, int]]


def qa_split(rows: Any) -> Split:
    """Read a Dataset in Jina-VDR's QA format: a row per query and page.

    A page is known by its file name. Rows without a query only add their page. The page of a query is that of its last
    row. Different images of one file name are all searched, and the best counts for the file.
    """
    from datasets import Dataset, Image

    raw = rows.cast_column("image", Image(decode=False))
    row_by_image: dict[tuple[str, bytes], int] = {}
    for row, (file, image) in enumerate(zip(rows["image_filename"], raw["image"], strict=True)):
        content = image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()
        row_by_image.setdefault((file, hashlib.sha256(content).digest()), row)
    ids: list[str] = []
    n_images: dict[str, int] = {}
    for file, _ in row_by_image:
        number = n_images[file] = n_images.get(file, 0) + 1
        ids.append(file if number == 1 else f"{file}{_SAME_FILE}{number}")
    corpus = rows.select(list(row_by_image.values())).select_columns(["image"]).add_column("id", ids)
    pairs = zip(rows["query"], rows["image_filename"], strict=True)
    file_by_query = {query: file for query, file in pairs if query}  # the last row of a query counts
    queries = {f"query-{number}": query for number, query in enumerate(file_by_query)}
    return Split(
        Dataset.from_dict({"id": [*queries], "text": [*queries.values()]}),
        corpus,
        {identity: {file_by_query[query]: 1} for identity, query in queries.items()},
    )


def qa_task(beir_task: Any) -> Any:
    """Make the QA-format twin of one of mteb's tasks of Jina-VDR."""
    metadata = beir_task.metadata
    owner, _, name = metadata.dataset["path"].removesuffix("_beir").partition("/")
    path = f"{owner}/{_QA_NAMES.get(name, name)}"

    def load(subset: str) -> Split:
        from datasets import load_dataset

        return qa_split(load_dataset(path, None if subset == "default" else subset, split="test"))

    return retrieval_task(
        metadata.name + QA_SUFFIX,
        load,
        languages=metadata.eval_langs,
        main_score="ndcg_at_5",
        kind="DocumentUnderstanding",
        path=path,
    )


def xtd10_splits(folder: Path) -> dict[str, Split]:
    """Read XTD10: `test_image_names.txt`, a `test_1kcaptions_<language>.txt` per language, and the images of MS COCO.

    The files may lie in subfolders. Line i of each file of captions describes image i. There is a split per language.

    Raises:
        ValueError: a file or an image is missing, or captions and images differ in number.
    """
    from datasets import Dataset, Image

    paths = {path.name: path for path in folder.rglob("*") if path.is_file()}
    names = _lines(paths, "test_image_names.txt", folder)
    if missing := [name for name in names if name not in paths]:
        raise ValueError(
            f"{len(missing)} of {len(names)} images are missing in {folder}, the first is {missing[0]}; they are files "
            "of MS COCO 2014, training and validation."
        )
    corpus = Dataset.from_dict({"id": names, "image": [str(paths[name]) for name in names]})
    corpus = corpus.cast_column("image", Image())
    splits = {}
    for language in XTD10_LANGUAGES:
        captions = _lines(paths, f"test_1kcaptions_{language}.txt", folder)
        if len(captions) != len(names):
            raise ValueError(f"there are {len(captions)} captions in {language!r} for {len(names)} images in {folder}.")
        queries = [f"{language}-{number}" for number in range(len(captions))]
        splits[language] = Split(
            Dataset.from_dict({"id": queries, "text": captions}),
            corpus,
            {query: {name: 1} for query, name in zip(queries, names, strict=True)},
        )
    return splits


def xtd10_task(folder: Path) -> Any:
    """Make the task of captions in ten languages that find images, from the files in a folder."""
    return retrieval_task(
        "XTD10T2IRetrieval",
        lambda subset: xtd10_splits(folder)[subset],
        languages={language: [code] for language, code in XTD10_LANGUAGES.items()},
        main_score="recall_at_5",
        kind="Any2AnyMultilingualRetrieval",
        path=str(folder),
    )


def retrieval_task(
    name: str,
    load: Callable[[str], Split],
    *,
    languages: Mapping[str, Sequence[str]] | Sequence[str],
    main_score: str,
    kind: str,
    path: str,
) -> Any:
    """Make a task of mteb in which texts search for images. `load` reads a subset, `"default"` if there is only one."""
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class Task(AbsTaskRetrieval):  # type: ignore[misc]  # mteb's classes are not read by mypy
        metadata = TaskMetadata(
            name=name,
            description=f"Retrieval of images; read by polyvec from {path}.",
            reference=None,
            dataset={"path": path, "revision": "local"},
            type=kind,
            category="t2i",
            modalities=["text", "image"],
            eval_splits=["test"],
            eval_langs=languages,
            main_score=main_score,
        )

        data_loaded: bool
        dataset: dict[str, dict[str, Any]]

        def load_data(self, num_proc: int | None = None, **_: Any) -> None:  # noqa: ARG002 — as mteb calls it
            if self.data_loaded:
                return
            self.dataset = {}
            for subset in self.hf_subsets:
                split = load(subset)
                relevant = {query: dict(judged) for query, judged in split.relevant.items()}
                data = {"queries": split.queries, "corpus": split.corpus, "relevant_docs": relevant}
                self.dataset[subset] = {"test": {**data, "top_ranked": None}}
            self.data_loaded = True

        def _evaluate_subset(self, model: Any, data_split: Any, **options: Any) -> Any:
            if any(_SAME_FILE in identity for identity in data_split["corpus"]["id"]):
                model = _BestOfFile(model)
            return super()._evaluate_subset(model, data_split, **options)

    return Task()


class _BestOfFile:
    """A model of mteb that gives a file the best score of its images, at least 0."""

    def __init__(self, model: Any) -> None:
        from mteb.models import SearchEncoderWrapper

        self._model = model if hasattr(model, "search") else SearchEncoderWrapper(model)
        self.mteb_model_meta = model.mteb_model_meta

    def index(self, corpus: Any, **options: Any) -> None:
        self._model.index(corpus, **options)

    def search(self, queries: Any, **options: Any) -> dict[str, dict[str, float]]:
        results: dict[str, dict[str, float]] = {}
        for query, scores in self._model.search(queries, **options).items():
            best = results.setdefault(query, {})
            for identity, score in scores.items():
                file = identity.partition(_SAME_FILE)[0]
                best[file] = max(best.get(file, 0.0), score)
        return results


def _lines(paths: Mapping[str, Path], name: str, folder: Path) -> list[str]:
    if name not in paths:
        raise ValueError(f"{name} is missing in {folder}; it is part of XTD10 by Adobe Research.")
    return paths[name].read_text(encoding="utf-8").splitlines()
