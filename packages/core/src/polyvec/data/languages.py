"""The languages of texts, told by py3langid (extra: `train`); nothing is downloaded."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

__all__ = ["Languages"]

_SURE = (
    0.8  # probability that the three likeliest languages share: close relatives divide it, short texts do not reach it
)
_UNLIKELY = 0.05  # probability of all accepted languages together, below which a text is in none of them
_ENOUGH = 200  # characters that are looked at


class Languages:
    """Tells whether a text is in one of some languages."""

    def __init__(self, codes: Sequence[str]) -> None:
        """Choose the accepted languages by their ISO 639 codes, such as `en`.

        Raises:
            ValueError: an unknown code.
            ImportError: py3langid is not installed.
        """
        self._identifier = _identifier()
        known = sorted(self._identifier.labels)
        for code in codes:
            if code not in known:
                raise ValueError(f"`languages` has {code!r}; known codes: {', '.join(known)}.")
        self.codes = frozenset(codes)

    def judge(self, text: str) -> tuple[Literal["accepted", "other", "unknown"], str]:
        """Return whether a text is in an accepted or in another language, and the code of the likeliest language.

        Texts that are too short to tell, and texts without words, are `unknown`.
        """
        ranked: list[tuple[str, float]] = self._identifier.rank(text[:_ENOUGH])
        accepted = sum(probability for code, probability in ranked if code in self.codes)
        likeliest = ranked[0][0]
        if likeliest in self.codes:
            return "accepted", likeliest
        if sum(probability for _, probability in ranked[:3]) < _SURE:
            return "unknown", likeliest
        return ("other" if accepted < _UNLIKELY else "accepted"), likeliest


@cache
def _identifier() -> Any:  # of a library without annotations
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier  # an optional extra
    except ImportError as error:
        raise ImportError("languages are told by py3langid; install it with `pip install 'polyvec[train]'`.") from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
