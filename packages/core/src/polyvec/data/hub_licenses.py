"""Licences in the front matter of cards, as the Hugging Face hub knows them."""

import json
import re

__all__ = ["license_lines", "quoted"]

# Names that the hub knows; every other licence is `other` with a name.
_KNOWN = {
    "apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0",
}  # fmt: skip


def license_lines(name: str) -> list[str]:
    """Return the lines of YAML that say a licence."""
    if name.lower() in _KNOWN:
        return [f"license: {name.lower()}"]
    return ["license: other", f"license_name: {quoted(name)}"]


def quoted(text: str) -> str:
    """Return a text in quotation marks, as YAML, TOML and JSON read it."""
    shown = json.dumps(text, ensure_ascii=False)
    # JSON leaves these as they are. YAML and TOML forbid them.
    return re.sub("[\x7f-\x9f\ufffe\uffff]", lambda match: f"\\u{ord(match[0]):04x}", shown)
