"""The command `polyvec data`, which is also `python -m polyvec.data`."""

from polyvec.cli import group
from polyvec.data.building.code.command import code_command, documentation_command, python_command
from polyvec.data.building.output.commands import export, look
from polyvec.data.building.questions.command import pages_command
from polyvec.data.building.tables.command import tables_command
from polyvec.data.building.web import commands as web

__all__ = ["data"]


@group("data", short_help="Build datasets for evaluation and training from your own material.")
def data() -> None:
    """Build a dataset: documents, queries and relevance, in a folder that `evaluate` and `train` read.

    Each command reads one sort of material. The folder has a card, and a page to look through what was built.
    """


for _command in (
    code_command,
    documentation_command,
    export,
    look,
    pages_command,
    python_command,
    tables_command,
    web.articles,
    web.descriptions,
    web.render,
    web.vqa,
):
    data.add_command(_command)


if __name__ == "__main__":
    data()
