import base64
import io
import json
from functools import partial
from types import SimpleNamespace

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from llama_index.core.llms import ChatMessage, ChatResponse, CustomLLM, LLMMetadata, MockLLM
from PIL import Image

from polyvec.data.building.questions.models import Answer, asked, model_name

IMAGE = Image.new("RGB", (30, 20), (200, 0, 0))
SAID = json.dumps(["What?", "JPEG", [30, 20]])


class Seeing(BaseChatModel):
    """A chat model of LangChain that says what it got, as the packages of providers read it."""

    model: str = "seeing-1"

    @property
    def _llm_type(self):
        return "seeing"

    def _generate(self, messages, stop=None, run_manager=None, **options):
        text, picture = messages[0].content_blocks
        assert (messages[0].type, picture["type"], picture["mime_type"]) == ("human", "image", "image/jpeg")
        with Image.open(io.BytesIO(base64.b64decode(picture["base64"]))) as image:
            said = json.dumps([text["text"], image.format, image.size])
        reply = AIMessage([{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": said}])
        reply.usage_metadata = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}
        return ChatResult(generations=[ChatGeneration(message=reply)])


class Indexed(CustomLLM):
    """The same for LlamaIndex."""

    raw: object = None
    more: dict[str, int] | None = None

    @property
    def metadata(self):
        return LLMMetadata(model_name="indexed-1", is_chat_model=True)

    def chat(self, messages, **options):
        text, picture = messages[0].blocks
        with Image.open(picture.resolve_image()) as image:
            said = json.dumps([text.text, image.format, image.size])
        message = ChatMessage(said, role="assistant")
        return ChatResponse(message=message, raw=self.raw, additional_kwargs=self.more or {})

    def complete(self, prompt, formatted=False, **options): ...

    def stream_complete(self, prompt, formatted=False, **options): ...


def describe(image, prompt):
    image.thumbnail((3, 2))
    return f"{prompt} {image.size}"


def test_functions_get_an_image_of_their_own():
    assert asked(describe)(IMAGE, "What?") == Answer("What? (3, 2)")
    assert IMAGE.size == (30, 20)
    with pytest.raises(TypeError, match="returned a NoneType; it must return"):
        asked(lambda image, prompt: None)(IMAGE, "What?")


def test_chat_models_of_langchain_get_content_blocks_and_tell_tokens():
    assert asked(Seeing())(IMAGE, "What?") == Answer(SAID, 9, 4)
    assert asked(GenericFakeChatModel(messages=iter(["[]"])))(IMAGE, "What?") == Answer("[]")
    assert asked(Seeing() | StrOutputParser())(IMAGE, "What?") == Answer(SAID)


@pytest.mark.parametrize(
    ("raw", "more"),
    [
        ({"usage": {"prompt_tokens": 7, "completion_tokens": 2}}, {}),
        (SimpleNamespace(usage=SimpleNamespace(input_tokens=7, output_tokens=2)), {}),
        ({"prompt_eval_count": 7, "eval_count": 2}, {}),
        (None, {"prompt_tokens": 7, "completion_tokens": 2}),
    ],
)
def test_llms_of_llama_index_get_blocks_and_may_tell_tokens(raw, more):
    assert asked(Indexed(raw=raw, more=more))(IMAGE, "What?") == Answer(SAID, 7, 2)
    assert asked(Indexed())(IMAGE, "What?") == Answer(SAID)
    assert "What?" in asked(MockLLM())(IMAGE, "What?").text


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(TypeError, match="`ask` is a str"):
        asked("gpt")

    async def later(image, prompt): ...

    with pytest.raises(TypeError, match="`ask` is the async function 'later'"):
        asked(later)


def test_models_have_names():
    assert model_name(Seeing()) == "Seeing seeing-1"
    assert model_name(Indexed()) == "Indexed indexed-1"
    assert model_name(MockLLM()) == "MockLLM unknown"
    assert model_name(describe).endswith("test_questions_models.describe")
    assert model_name(partial(describe, tone="dry")) == model_name(describe)
    assert model_name(Seeing() | StrOutputParser()) == "Seeing seeing-1 | StrOutputParser"
    assert model_name(Seeing().with_retry()) == "Seeing seeing-1"
