"""Fonts that are installed, and which of them a text needs: a letter that no font has is an error, never a box."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

__all__ = ["Fonts", "chain", "installed_fonts"]

_BASES = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSans-Bold.ttf")  # matplotlib brings them
_PACKAGES = (("manimgx_fonts", "Noto*.ttf"), ("notojp_matplotlib", "fonts/*.otf"))  # the extra `fonts`
_NOT_DRAWN = frozenset(
    "\u200c\u200d\ufe0e\ufe0f"
)  # they join letters and choose variants; fonts need no glyph for them
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Fonts:
    """Font files.

    Attributes:
        bases: fonts for whole pages, from which a style takes one.
        others: fonts for letters that a base lacks, the first that has a letter draws it.
    """

    bases: tuple[str, ...]
    others: tuple[str, ...]


def installed_fonts(files: Sequence[Path] = ()) -> Fonts:
    """Return the user's fonts, those of matplotlib, those of packages and those of the system, in this order.

    Raises:
        ValueError: a file is no font.
        ImportError: matplotlib is not installed, or too old to shape text.
    """
    _check_matplotlib()
    import matplotlib as mpl  # an optional extra

    own = [str(file) for file in files]
    for file in own:
        _letters(file)
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    shipped = [str(folder / name) for name in _BASES]
    latin = [file for file in _packaged() if Path(file).name.startswith("NotoSans[")]
    bases = own or [*shipped[:2], *latin]
    return Fonts(tuple(bases), tuple(dict.fromkeys([*own, *shipped[:1], *_packaged(), *_of_the_system()])))


def chain(fonts: Fonts, base: int, letters: frozenset[str], *, where: str = "") -> tuple[str, ...]:
    """Return the fonts that some letters need: base number `base` (of as many as there are, in a circle) and others.

    Raises:
        ValueError: no font has a letter. The message names the letter, its script and what to install.
    """
    first = fonts.bases[base % len(fonts.bases)]
    files = [first]
    missing = {letter for letter in letters if not letter.isspace() and letter not in _NOT_DRAWN} - _letters(first)
    for file in fonts.others:
        if not missing:
            break
        if drawn := missing & _letters_if_readable(file):
            missing -= drawn
            files.append(file)
    if missing:
        raise ValueError(f"no font has {_named(missing)}{where}; {_remedy()}")
    return tuple(files)


def _check_matplotlib() -> None:
    try:
        from matplotlib import ft2font  # an optional extra
    except ImportError as error:
        raise ImportError("pages are drawn with matplotlib; install it with `pip install 'polyvec[build]'`.") from error
    if not hasattr(ft2font, "__libraqm_version__"):
        raise ImportError("this matplotlib cannot shape Arabic or Devanagari; `pip install 'matplotlib>=3.11'`.")


@lru_cache(256)
def _letters(file: str) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font  # an optional extra

    try:
        return frozenset(map(chr, FT2Font(file).get_charmap()))
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{file} is no font that FreeType reads: {error}") from error


def _letters_if_readable(file: str) -> frozenset[str]:
    try:
        return _letters(file)
    except ValueError:
        return frozenset()  # a bitmap font of the system, say


def _packaged() -> list[str]:
    found: list[str] = []
    for package, pattern in _PACKAGES:
        spec = find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            found.extend(map(str, sorted(Path(folder).glob(pattern))))
    return [file for file in found if "Italic" not in file and "Emoji" not in file]


@cache
def _of_the_system() -> tuple[str, ...]:
    """Return upright fonts; those of matplotlib have letters of formulas under wrong codes, or only boxes."""
    import matplotlib as mpl  # an optional extra
    from matplotlib.font_manager import fontManager

    upright = {font.fname for font in fontManager.ttflist if font.style == "normal" and font.weight in (400, "normal")}
    own = mpl.get_data_path()
    return tuple(sorted(file for file in upright if not file.startswith(own) and "LastResort" not in file))


def _named(letters: Iterable[str]) -> str:
    listed = sorted(letters)
    names = []
    for letter in listed[:_MOST_NAMED]:
        name = unicodedata.name(letter, "")
        script = f", {name.split()[0].title()}" if name else ""
        names.append(f"{letter!r} (U+{ord(letter):04X}{script})")
    more = f" and {len(listed) - _MOST_NAMED} more" if len(listed) > _MOST_NAMED else ""
    return ", ".join(names) + more


def _remedy() -> str:
    absent = [package for package, _ in _PACKAGES if find_spec(package) is None]
    install = "`pip install 'polyvec[fonts]'`, or " if absent else ""
    return f"{install}choose a font that has it with `--font FILE`."
