"""What can be asked: a function, a chat model of LangChain, or an LLM of LlamaIndex. Neither framework is needed."""

import base64
import inspect
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import Image

__all__ = ["Answer", "Ask", "asked", "model_name"]

_QUALITY = 90  # of JPEG
_IN = ("input_tokens", "prompt_tokens", "prompt_token_count", "prompt_eval_count")
_OUT = ("output_tokens", "completion_tokens", "candidates_token_count", "eval_count")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said, and what it took; None if that was not told."""

    text: str
    input_tokens: int | None = None
    output_tokens: int | None = None


Ask = Callable[[Image.Image, str], Answer]


def asked(model: Any) -> Ask:  # Any: of frameworks that may not be installed
    """Return how to ask a model about an image.

    Args:
        model: a function that takes an image (`PIL.Image.Image`) and a prompt and returns a text; a chat model of
            LangChain, or a chain that takes messages; an LLM of LlamaIndex.

    Raises:
        TypeError: it is none of them.
    """
    if _is_of(model, "langchain_core") and hasattr(model, "invoke"):
        return lambda image, prompt: _ask_langchain(model, image, prompt)
    if _is_of(model, "llama_index") and hasattr(model, "chat"):
        return lambda image, prompt: _ask_llama_index(model, image, prompt)
    if inspect.iscoroutinefunction(model):
        raise TypeError(f"`ask` is the async function {model.__name__!r}; give a function that returns the answer.")
    if callable(model):
        return lambda image, prompt: _ask_function(model, image, prompt)
    raise TypeError(
        f"`ask` is a {type(model).__name__}; give a function of an image and a prompt, a chat model of LangChain, or "
        "an LLM of LlamaIndex."
    )


def model_name(model: Any) -> str:  # Any: as above
    """Return a name for a model: its class and what it calls itself, or the module and name of a function.

    A chain of LangChain has the names of its steps. What wraps a model or a function has its name.
    """
    if isinstance(model, partial):
        return model_name(model.func)
    if not _is_of(model, "langchain_core", "llama_index"):
        named = model if hasattr(model, "__qualname__") else type(model)
        return f"{named.__module__}.{named.__qualname__}"
    if steps := getattr(model, "steps", ()):
        return " | ".join(map(model_name, steps))
    if (bound := getattr(model, "bound", None)) is not None:
        return model_name(bound)
    metadata = getattr(model, "metadata", None)  # of LangChain, a mapping or None
    own = getattr(metadata, "model_name", None) or getattr(model, "model_name", None) or getattr(model, "model", None)
    return f"{type(model).__name__} {own}" if isinstance(own, str) and own else type(model).__name__


def _ask_function(function: Callable[[Image.Image, str], object], image: Image.Image, prompt: str) -> Answer:
    text = function(image.copy(), prompt)  # it may shrink its image
    if not isinstance(text, str):
        raise TypeError(f"the function returned a {type(text).__name__}; it must return the answer as a str")
    return Answer(text)


def _ask_langchain(model: Any, image: Image.Image, prompt: str) -> Answer:  # Any: as above
    from langchain_core.messages import HumanMessage  # there, as the model is one of its own

    picture = {"type": "image", "base64": base64.b64encode(_jpeg(image)).decode(), "mime_type": "image/jpeg"}
    reply = model.invoke([HumanMessage(content=[{"type": "text", "text": prompt}, picture])])
    if isinstance(reply, str):  # of a chain that ends in a parser
        return Answer(reply)
    return Answer(str(reply.text), *_tokens(getattr(reply, "usage_metadata", None)))


def _ask_llama_index(model: Any, image: Image.Image, prompt: str) -> Answer:  # Any: as above
    from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock  # as above

    picture = ImageBlock(image=_jpeg(image), image_mimetype="image/jpeg")
    reply = model.chat([ChatMessage(role="user", blocks=[TextBlock(text=prompt), picture])])
    tokens = _tokens(_field(reply.raw, "usage") or _field(reply.raw, "usage_metadata") or reply.raw)
    return Answer(reply.message.content or "", *(tokens if any(tokens) else _tokens(reply.additional_kwargs)))


def _tokens(usage: Any) -> tuple[int | None, int | None]:  # Any: what the providers return
    counts = [next((n for name in names if isinstance(n := _field(usage, name), int)), None) for names in (_IN, _OUT)]
    return counts[0], counts[1]


def _field(value: Any, name: str) -> Any:  # Any: as above
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _is_of(model: object, *packages: str) -> bool:
    return any(kind.__module__.partition(".")[0] in packages for kind in type(model).__mro__)
