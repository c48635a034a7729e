"""What the package exports, and what it needs for that."""

import subprocess
import sys

import pytest

import langchain_polyvec
from langchain_polyvec import PolyvecEmbeddings

EXPECTED_ALL = [
    "PolyvecEmbeddings",
    "PolyvecLoader",
    "PolyvecRerank",
    "PolyvecRetriever",
    "PolyvecTranslator",
    "PolyvecVectorStore",
    "UnstoredItems",
    "content_blocks",
]


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_all_names_are_there():
    assert sorted(EXPECTED_ALL) == sorted(langchain_polyvec.__all__)
    for name in EXPECTED_ALL:
        assert getattr(langchain_polyvec, name).__module__.startswith(("langchain_polyvec.", "qdrant_polyvec."))
    with pytest.raises(AttributeError, match="no attribute 'nil'"):
        _ = langchain_polyvec.nil


def test_without_the_extra_the_store_says_what_to_install():
    names = ["PolyvecVectorStore", "PolyvecRetriever", "UnstoredItems"]
    code = (
        "import sys; sys.modules['qdrant_polyvec'] = None\n"
        "import langchain_polyvec\n"
        f"for name in {names}:\n"
        "    try: getattr(langchain_polyvec, name)\n"
        "    except ImportError as error: print(error)\n"
    )
    told = run(code).stdout.splitlines()
    assert [line.split()[0] for line in told] == names
    assert all("pip install 'langchain-polyvec[qdrant]'" in line for line in told)


def test_without_the_extra_the_rest_works():
    done = run(
        "import sys; sys.modules['qdrant_polyvec'] = sys.modules['qdrant_client'] = sys.modules['torch'] = None\n"
        "from langchain_core.documents import Document\n"
        "from langchain_polyvec import PolyvecEmbeddings, PolyvecRerank, content_blocks\n"
        "from polyvec.testing import HashEncoder\n"
        "embeddings = PolyvecEmbeddings(client=HashEncoder())\n"
        "documents = [Document('a fox'), Document('a whale')]\n"
        "print(PolyvecRerank(embeddings=embeddings, top_n=1).compress_documents(documents, 'whale')[0].page_content)\n"
        "print(len(content_blocks(documents)))\n"
    )
    assert (done.stdout, done.stderr) == ("a whale\n2\n", "")


def test_without_pypdfium2_a_pdf_says_what_to_install(tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7")
    code = (
        "import sys; sys.modules['pypdfium2'] = None\n"
        "from langchain_polyvec import PolyvecEmbeddings, PolyvecVectorStore\n"
        "from polyvec.testing import HashEncoder\n"
        "embeddings = PolyvecEmbeddings(client=HashEncoder())\n"
    )
    calls = (
        f"PolyvecVectorStore(embeddings, location=':memory:').add_pdfs(['{tmp_path}/a.pdf'])",
        f"embeddings.embed_images(['{tmp_path}/a.pdf#page=1'])",
    )
    code += "".join(f"try: {call}\nexcept ImportError as error: print(error)\n" for call in calls)
    assert run(code).stdout.count("pip install 'langchain-polyvec[pdf]'") == 2


def test_construction_opens_no_connection(socket_disabled):
    embeddings = PolyvecEmbeddings(model="jinaai/jina-embeddings-v4", dimensions=1024)
    assert "1024" in repr(embeddings)
