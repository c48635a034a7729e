"""Train the demo checkpoint, measure it, or draw pages: `python -m recipes.demo train|evaluate|gap|ablate|pages`."""

import argparse
import logging
from pathlib import Path

import numpy as np
import torch

from polyvec.embedder import Embedder
from polyvec.synthetic import pages, world
from recipes.demo.ablation import ablate
from recipes.demo.card import gap_table, tables
from recipes.demo.stages import STAGES
from recipes.demo.training import train

_PAGES_SEED = 7_000_002
_GAP = ("blank", "pairs", STAGES[-1].name)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m recipes.demo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train the demo checkpoint from nothing")
    training.add_argument("directory", type=Path, help="where the stages are kept; the last one is the checkpoint")
    training.add_argument(
        "--stage", action="append", choices=[stage.name for stage in STAGES], help="only these stages"
    )
    evaluate = commands.add_parser("evaluate", help="print the scores of a checkpoint on unseen data")
    evaluate.add_argument("model", nargs="?", default="demo", help="'demo' or a directory (default: %(default)s)")
    gap = commands.add_parser("gap", help="print the modality gap before training, after phase 1 and after phase 2")
    gap.add_argument("directory", type=Path, help="of `train`")
    ablation = commands.add_parser("ablate", help="train small variants, and print what each part is worth")
    ablation.add_argument("directory", type=Path, help="where variants and their figures are kept")
    ablation.add_argument("--seeds", type=int, default=3, help="2 or more (default: %(default)s)")
    draw = commands.add_parser("pages", help="draw unseen pages and list a query for each")
    draw.add_argument("directory", type=Path, help="where pages/page-01.png … and queries.txt are written")
    draw.add_argument("--count", type=int, default=24)
    options = parser.parse_args()
    if options.command == "ablate" and options.seeds < 2:
        parser.error(f"--seeds is {options.seeds}; a spread needs 2 or more.")
    logging.basicConfig(level=logging.INFO)
    if options.command == "train":
        train(options.directory, options.stage)
    elif options.command == "evaluate":
        for table in tables(Embedder.from_pretrained(options.model, dtype=torch.float32)):
            print(table.markdown(), end="\n\n", flush=True)
    elif options.command == "gap":
        encoders = {name: Embedder.from_pretrained(options.directory / name, dtype=torch.float32) for name in _GAP}
        print(gap_table(encoders).markdown())
    elif options.command == "ablate":
        print(ablate(options.directory, range(options.seeds)).markdown())
    else:
        _draw(options.directory, options.count)


def _draw(directory: Path, n: int) -> None:
    (directory / "pages").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(_PAGES_SEED)
    queries = []
    for number in range(1, n + 1):
        document = world.document(rng)
        pages.page_image(document, rng).quantize(64).save(directory / "pages" / f"page-{number:02}.png", optimize=True)
        queries.append(world.queries(document, rng)[0])
    (directory / "queries.txt").write_text("\n".join(queries) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
