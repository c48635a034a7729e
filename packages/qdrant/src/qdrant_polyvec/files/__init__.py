"""Files and folders, cut into units that are each worth a search result."""

from qdrant_polyvec.files.content import Unit, load, load_image, units
from qdrant_polyvec.files.folders import find
from qdrant_polyvec.files.kinds import LeftOut
from qdrant_polyvec.files.reading import Reading

__all__ = ["LeftOut", "Reading", "Unit", "find", "load", "load_image", "units"]
