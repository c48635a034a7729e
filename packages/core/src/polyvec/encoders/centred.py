"""An encoder without the modalities' means: for search where texts and images are in one corpus. No torch."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self, Unpack

import numpy as np
from jaxtyping import Float32

from polyvec import vector_files
from polyvec.encoder import Attempt, EncodeOptions, Encoder, attempt
from polyvec.inputs import check_options, check_task, check_tasks, checked_items, checked_size
from polyvec.types import Embeddings, ImageText, Input, Side
from polyvec.vectors import truncate, unit

__all__ = ["CentredEncoder", "Means", "modality_means"]

_FORMAT = "polyvec means 1"


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """The mean dense vectors of texts and of images, from documents of one encoder and task.

    Attributes:
        fingerprint: of the encoder.
    """

    text: Float32[np.ndarray, " dim"]
    image: Float32[np.ndarray, " dim"]
    task: str
    fingerprint: str

    def save(self, path: str | Path) -> None:
        """Write the means to a safetensors file; one that is there is replaced. Raises `OSError` if that fails."""
        about = {"format": _FORMAT, "task": self.task, "fingerprint": self.fingerprint}
        vector_files.write(Path(path), {"text": self.text, "image": self.image}, about)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read means that `save` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no file of means, or damaged.
        """
        arrays, about = vector_files.read(Path(path), format=_FORMAT)
        try:
            return cls(arrays["text"], arrays["image"], about["task"], about["fingerprint"])
        except KeyError as error:
            raise ValueError(f"{str(path)!r} is damaged: it has no {error}.") from error


def modality_means(encoder: Encoder, documents: Iterable[Input], *, task: str) -> Means:
    """Encode a sample of a mixed corpus, and return the means of its texts and of its images.

    Some hundreds of either are enough: the standard error of a mean of n unit vectors is at most 1/√n.

    Raises:
        ValueError: there are fewer than two texts or two images, an item of both, or an unknown task.
        UnreadableInputs: as `encoder.encode`.
    """
    check_task(task, encoder.tasks)
    items = list(map(_of_one_modality, checked_items(documents)))
    is_text = np.array([isinstance(item, str) for item in items], bool)
    n_texts, n_images = int(is_text.sum()), int((~is_text).sum())
    if min(n_texts, n_images) < 2:
        raise ValueError(f"`documents` has {n_texts} texts and {n_images} images; give two or more of either.")
    dense = encoder.encode(items, side="document", task=task).dense
    text, image = (dense[rows].mean(axis=0, dtype=np.float64).astype(np.float32) for rows in (is_text, ~is_text))
    return Means(text, image, task, encoder.fingerprint)


class CentredEncoder(Encoder):
    """An encoder whose dense vectors have lost the mean of their modality, at unit length again.

    In one corpus of texts and images, most models rank one modality above the other whatever the query. Without the
    means that bias is gone (GR-CLIP, arXiv 2507.19054). Whether it helps depends on the model and the corpus:
    `polyvec analyze` shows nDCG with and without the means. Multi-vectors stay as they are, because late search lost by
    it where it was measured. A query loses the mean of its modality, too. Items of image and text have no
    mean and are refused.

    A collection that is opened with a centred encoder takes only vectors of encoders with the same means.
    """

    def __init__(self, encoder: Encoder, means: Means | Sequence[Means]) -> None:
        """Wrap an encoder. Each task has its own means; vectors of tasks without means stay as they are.

        Raises:
            ValueError: means of another encoder or length, of an unknown task, or twice of one task.
        """
        self.encoder = encoder
        self._means: Mapping[str, Means] = _checked(encoder, [means] if isinstance(means, Means) else list(means))
        self.dim, self.multivector_dim, self.tasks = encoder.dim, encoder.multivector_dim, encoder.tasks
        self.sizes, self.license = encoder.sizes, encoder.license
        digest = hashlib.sha256()
        for name, value in sorted(self._means.items()):
            digest.update(name.encode() + b"\0" + value.text.tobytes() + value.image.tobytes())
        self._suffix = digest.hexdigest()[:16]

    @property
    def fingerprint(self) -> str:  # type: ignore[override]  # it follows that of the wrapped encoder
        """The fingerprint of the wrapped encoder, and a digest of the means."""
        return f"{self.encoder.fingerprint}-centred-{self._suffix}"

    def close(self) -> None:
        """Close the wrapped encoder."""
        self.encoder.close()

    def encode(
        self, inputs: Iterable[Input], *, side: Side, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Embeddings:
        """Encode, and subtract the means from the dense vectors at full length; see `Encoder.encode`."""
        check_options(options, EncodeOptions.__annotations__)
        size = checked_size(options.pop("truncate_dim", None), self.dim, self.sizes)
        items = checked_items(inputs)
        tasks = check_tasks(task, len(items), self.tasks)
        pairs = list(zip(items, tasks, strict=True))
        sent = [name for item, name in pairs if not (isinstance(item, ImageText) and name in self._means)]

        def convert(pair: tuple[Input, str]) -> Input:
            return _of_one_modality(pair[0]) if pair[1] in self._means else pair[0]

        result = attempt(partial(self.encoder.encode, side=side, task=sent, **options), pairs, convert)
        dense = result.embeddings.dense.copy()
        for row, position in enumerate(result.kept):
            if means := self._means.get(tasks[position]):
                mean = means.text if isinstance(items[position], str) else means.image
                dense[row] = unit(dense[row : row + 1] - mean)[0]
        centred = replace(result.embeddings, dense=_shortened(dense, size), fingerprint=self.fingerprint)
        return Attempt(centred, result.kept, result.failures).result()


def _of_one_modality(item: Input) -> Input:
    if isinstance(item, ImageText):
        message = "an item of image and text (ImageText) has no mean to remove; give its image or its text."
        raise ValueError(message)  # noqa: TRY004 — which counts as a failure of this item
    return item


def _shortened(dense: Float32[np.ndarray, "items dim"], size: int) -> Float32[np.ndarray, "items size"]:
    return dense if size == dense.shape[1] else truncate(dense, size)


def _checked(encoder: Encoder, means: Sequence[Means]) -> dict[str, Means]:
    by_task: dict[str, Means] = {}
    for value in means:
        check_task(value.task, encoder.tasks)
        if value.task in by_task:
            raise ValueError(f"`means` has two of task {value.task!r}; give one.")
        if value.fingerprint != encoder.fingerprint:
            raise ValueError(
                f"`means` are those of the encoder {value.fingerprint!r}, and this is {encoder.fingerprint!r}; make "
                "them again with `modality_means`."
            )
        if value.text.shape != (encoder.dim,) or value.image.shape != (encoder.dim,):
            raise ValueError(
                f"`means` have the shapes {value.text.shape} and {value.image.shape}; it must be ({encoder.dim},)."
            )
        if not (np.isfinite(value.text).all() and np.isfinite(value.image).all()):
            raise ValueError("`means` have numbers that are not finite; make them again with `modality_means`.")
        by_task[value.task] = value
    return by_task
