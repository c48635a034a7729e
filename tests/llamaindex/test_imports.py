"""The leaves of the namespace, and what they need."""

import subprocess
import sys
from pathlib import Path

LEAVES = ("embeddings", "vector_stores", "retrievers", "postprocessor", "readers")
ROOT = Path(__file__).parents[2] / "packages" / "llamaindex" / "src" / "llama_index"


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_nothing_stands_above_the_leaves():
    files = {
        path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file() and ".pyc" not in path.name
    }
    assert all(path.split("/")[1] == "polyvec" for path in files)
    assert {path for path in files if path.endswith("py.typed")} == {f"{leaf}/polyvec/py.typed" for leaf in LEAVES}


def test_the_namespace_is_shared_with_llamaindex():
    done = run(
        "import llama_index.core, llama_index.vector_stores.qdrant\n"
        + "\n".join(f"import llama_index.{leaf}.polyvec" for leaf in LEAVES)
    )
    assert done.stderr == ""


def test_without_the_extra_the_store_says_what_to_install():
    code = (
        "import sys; sys.modules['qdrant_polyvec'] = None\n"
        "from importlib import import_module\n"
        "for leaf in ('vector_stores', 'retrievers'):\n"
        "    try: import_module(f'llama_index.{leaf}.polyvec')\n"
        "    except ImportError as error: print(error)\n"
    )
    assert run(code).stdout.count("pip install 'llama-index-embeddings-polyvec[qdrant]'") == 2


def test_without_the_extra_the_rest_works():
    done = run(
        "import sys; sys.modules['qdrant_polyvec'] = sys.modules['torch'] = None\n"
        "from llama_index.core.schema import NodeWithScore, TextNode\n"
        "from llama_index.embeddings.polyvec import PolyvecEmbedding\n"
        "from llama_index.postprocessor.polyvec import PolyvecRerank\n"
        "from polyvec.testing import HashEncoder\n"
        "rerank = PolyvecRerank(embed_model=PolyvecEmbedding(client=HashEncoder()), top_n=1)\n"
        "nodes = [NodeWithScore(node=TextNode(text=text), score=0) for text in ('a fox', 'a whale')]\n"
        "print(rerank.postprocess_nodes(nodes, query_str='whale')[0].text)\n"
    )
    assert (done.stdout, done.stderr) == ("a whale\n", "")


def test_without_pypdfium2_a_pdf_says_what_to_install(tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7")
    code = (
        "import sys; sys.modules['pypdfium2'] = None\n"
        "from llama_index.readers.polyvec import PolyvecReader\n"
        f"PolyvecReader(page_folder='{tmp_path}/pages').load_data('{tmp_path}/a.pdf')\n"
    )
    assert "pip install 'llama-index-embeddings-polyvec[pdf]'" in run(code).stderr
