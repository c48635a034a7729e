"""Files and folders, cut into units that are each worth a search result."""

from qdrant_polyvec.files.content import Unit, load, load_image, units
from qdrant_polyvec.files.folders import find

__all__ = ["Unit", "find", "load", "load_image", "units"]
