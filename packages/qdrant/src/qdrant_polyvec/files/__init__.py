"""Files and folders, cut into units that are each worth a search result."""

from qdrant_polyvec.files.content import Unit, load, units
from qdrant_polyvec.files.folders import (
    CODE_SUFFIXES,
    HTML_SUFFIXES,
    IMAGE_SUFFIXES,
    PDF_SUFFIX,
    SUFFIXES,
    TEXT_SUFFIXES,
    find,
)

__all__ = [
    "CODE_SUFFIXES",
    "HTML_SUFFIXES",
    "IMAGE_SUFFIXES",
    "PDF_SUFFIX",
    "SUFFIXES",
    "TEXT_SUFFIXES",
    "Unit",
    "find",
    "load",
    "units",
]
