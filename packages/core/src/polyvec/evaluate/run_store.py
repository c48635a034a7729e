"""What a run of a benchmark keeps beside mteb's results, in JSON files that are written in one piece."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyvec.whole_files import write_text

__all__ = ["counted", "store", "stored"]


def stored(path: Path) -> Any:  # whatever JSON the file has
    """Read a file of results, or nothing if there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}. Delete it, or run the task again with --overwrite.") from error


def store(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of results, which `stored` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content))


def counted(task: Any) -> dict[str, list[int]]:
    """Count the queries of each subset: all, those without a judgement, and those whose grades are all 0.

    Raises:
        ValueError: a subset has no documents, or no query with a judgement.
    """
    task.convert_v1_dataset_format_to_v2(num_proc=None)
    counts: dict[str, list[int]] = {}
    for subset in task.hf_subsets:
        for split in task.eval_splits:
            data = task.dataset[subset][split]
            judged = [data["relevant_docs"].get(query) or {} for query in data["queries"]["id"]]
            n_dropped = sum(not grades for grades in judged)
            n_hopeless = sum(bool(grades) and max(grades.values()) <= 0 for grades in judged)
            if not len(data["corpus"]) or n_dropped == len(judged):
                what = "documents" if not len(data["corpus"]) else "queries with a judgement"
                raise ValueError(f"subset {subset!r}, split {split!r} has no {what}")
            before = counts.get(subset, [0, 0, 0])
            counts[subset] = [sum(pair) for pair in zip(before, (len(judged), n_dropped, n_hopeless), strict=True)]
    return counts
