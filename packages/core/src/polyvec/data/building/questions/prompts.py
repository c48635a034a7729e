"""What is asked about a page: a prompt for each kind of query, and one that asks whether a page answers a query."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

__all__ = ["ANSWERABLE", "KINDS", "PROMPTS", "answerable_prompt", "query_prompt", "read_prompts", "second_prompt"]

ANSWERABLE = "answerable"  # the name of the prompt for the second call

_RULES = """
Rules:
- Whoever searches has never seen the page. Name the subject: the company, place, product, person or year.
- It must be clear without the page. Do not write "this page", "the document", "the figure", "the table", "above", or
  anything else that points at a page, in any language.
- It must fit this page and hardly any other page. Nothing about titles, page numbers or layout.
- Use your own words; copy names, numbers and technical terms exactly.
- Write in {language}, whatever the language of the page is."""

_FORM = """
Answer with JSON only, a list of objects: [{"query": "..."}]. If the page has nothing to search for, answer []."""

_QUESTION = f"""You see one page of a large collection. Write {{n}} questions that this page answers.
{_RULES}
- Ask for one thing that stands on the page: a fact, a number, a name, a comparison, a reason.

Answer with JSON only, a list of objects: [{{"query": "...", "answer": "..."}}]. The answer is as short as possible, and
in {{language}}. If the page answers no question, answer []."""

_KEY_PHRASE = f"""You see one page of a large collection. Write {{n}} key phrases that should find this page, as people
type them into a search box.
{_RULES}
- Two to eight words each, no sentence, no question mark.
{_FORM}"""

_DESCRIPTION = f"""You see one page of a large collection. Write {{n}} descriptions of what it shows, as a person would
describe a page to find it again.
{_RULES}
- One to three sentences each: the subject, what sort of material it is (a chart of what, a form for what), the period,
  the place, the main finding.
{_FORM}"""

_STATEMENT = f"""You see one page of a large collection. Write {{n}} statements of fact that this page supports.
{_RULES}
- One declarative sentence each, true according to the page, with the figures or names that make it precise.
{_FORM}"""

_SECOND_CALL = """You see one page of a large collection, and a search query. Decide whether this page alone satisfies
the query: a question if its answer stands on the page, a statement if the page says so, a description or key phrases if
the page is about exactly that. Use nothing that you know from elsewhere. If you are not sure, it does not.

Query: {query}

Answer with JSON only: {"answerable": true, "answer": "..."} or {"answerable": false, "answer": ""}. The answer is that
to a question, as short as possible, in {language}; leave it empty if the query is no question."""

PROMPTS: Mapping[str, str] = {
    "question": _QUESTION,
    "key phrase": _KEY_PHRASE,
    "description": _DESCRIPTION,
    "statement": _STATEMENT,
    ANSWERABLE: _SECOND_CALL,
}
KINDS = tuple(kind for kind in PROMPTS if kind != ANSWERABLE)

_LANGUAGES = {
    "ar": "Arabic", "bn": "Bengali", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek", "en": "English",
    "es": "Spanish", "fa": "Persian", "fi": "Finnish", "fr": "French", "he": "Hebrew", "hi": "Hindi", "hu": "Hungarian",
    "id": "Indonesian", "it": "Italian", "ja": "Japanese", "ko": "Korean", "nl": "Dutch", "no": "Norwegian",
    "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sv": "Swedish", "sw": "Swahili",
    "th": "Thai", "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip


def query_prompt(template: str, *, language: str, n: int) -> str:
    """Fill in a prompt for queries."""
    return template.replace("{language}", _language(language)).replace("{n}", str(n))


def answerable_prompt(template: str, query: str, *, language: str) -> str:
    """Fill in the prompt for the second call."""
    return template.replace("{language}", _language(language)).replace("{query}", query)


def second_prompt(prompt: str, fault: str) -> str:
    """Return the prompt for another try, after an answer that could not be read."""
    return f"{prompt}\n\nYour last answer could not be read: {fault}. Answer with valid JSON only, as described above."


def read_prompts(path: Path) -> dict[str, str]:
    """Return the prompts with those that a TOML file replaces or adds: kinds of queries, and `answerable`.

    Prompts may have the placeholders `{language}` and `{n}`; that of `answerable` has `{query}`.

    Raises:
        ValueError: the file is no such file.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"prompts cannot be read from {str(path)!r}: {error}") from error
    for kind, prompt in content.items():
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(f"{path}: {kind!r} must be a text, the prompt, such as {kind!r} = '''...'''.")
        if kind == ANSWERABLE and "{query}" not in prompt:
            raise ValueError(f"{path}: the prompt of {kind!r} lacks the placeholder {{query}}.")
    return {**PROMPTS, **content}


def _language(code: str) -> str:
    return _LANGUAGES.get(code, f"the language with the ISO 639 code {code!r}")
