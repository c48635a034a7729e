"""Print what training an own adapter on jina-embeddings-v4 takes, by arithmetic: `python -m recipes.own_adapter`."""

from pathlib import Path

from polyvec.train.output.initialize import stock_config
from polyvec.train.runs.estimate import flops, image_tokens, memory, parameters
from polyvec.train.runs.run_file import read_run
from recipes.arithmetic import UTILISATION, gigabytes, items, markdown

FOLDER = Path(__file__).parent
_TEMPLATE = 11  # tokens around a page
_FREE = 0.85  # of a GPU's memory: the CUDA context and the allocator's gaps take what is left
# Memory in GB; TFLOPS in bfloat16 without sparsity, from the vendor's data sheets.
GPUS = {"16 GB (RTX 4080)": (16, 97), "24 GB (RTX 4090)": (24, 165), "80 GB (H100)": (80, 989)}


def report() -> str:
    """Return the tables of docs/training.md."""
    config = stock_config(FOLDER, license_name="Qwen Research License")
    sizes = parameters(config)
    run = read_run(FOLDER / "my-domain.toml")
    page = image_tokens(config.image.max_pixels, config)
    step = items(run, page)

    def costs(n_pages: int | None) -> dict[str, int]:
        chunk = None if n_pages is None else n_pages * (page + _TEMPLATE)
        return memory(config, sizes, step, chunk_tokens=chunk, checkpointing=True, trains_projector=False)

    rows = [[name, *(gigabytes(costs(n)[name]) for n in (1, 4, 16, None))] for name in costs(1)]
    rows.append(["in all", *(gigabytes(sum(costs(n).values())) for n in (1, 4, 16, None))])
    operations = sum(flops(config, sizes, step, cached=True, checkpointing=True).values())
    gpus = []
    for name, (room, peak) in GPUS.items():
        most = max(n for n in range(1, len(step.images) + 1) if sum(costs(n).values()) <= _FREE * room * 1e9)
        seconds = operations / (peak * 1e12 * UTILISATION)
        gpus.append([name, f"{most}", f"{seconds:.0f}", f"{run.steps * seconds / 3600:.1f}"])
    lines = [
        *markdown(["GB, with chunks of", "1 page", "4 pages", "16 pages", "no GradCache"], rows),
        "",
        *markdown(["GPU", "largest chunk, in pages", "seconds a step", f"hours for {run.steps} steps"], gpus),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())
