"""Which text surrounds an input, per task and side (the checkpoint's own convention; it knows no instructions)."""

from polyvec.types import TASKS, PromptName

IMAGE_PROMPT = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Describe the image.<|im_end|>\n"

_PREFIXES: dict[PromptName, str] = {"query": "Query: ", "passage": "Passage: "}


def prefix(task: str, prompt_name: PromptName) -> str:
    """The words before a text. text-matching is symmetric: both sides carry the query's.

    Raises:
        ValueError: there is no such side.
    """
    if prompt_name not in _PREFIXES:
        raise ValueError(f"`prompt_name` is {prompt_name!r}; it is 'query' or 'passage'.")
    return _PREFIXES["query" if task == "text-matching" else prompt_name]


def check_task(task: object, known: tuple[str, ...] = TASKS) -> None:
    """Refuse what is not a task of the model.

    Raises:
        ValueError: with the known tasks, and for a spelling of the hosted API with what to write instead.
    """
    if task in known:
        return
    message = f"`task` is {task!r}; this model knows {', '.join(map(repr, known))}."
    stem, _, side = str(task).partition(".")
    if stem in known and side in ("query", "passage"):
        method = "encode_query" if side == "query" else "encode_document"
        message += f" The side of a search is the method that is called: write `{method}(…, task={stem!r})`."
    raise ValueError(message)
