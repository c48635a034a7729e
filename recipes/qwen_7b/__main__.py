"""Print what the recipe needs, by arithmetic from its own files: `python -m recipes.qwen_7b`."""

from pathlib import Path

from polyvec.train.output.initialize import stock_config
from polyvec.train.runs.estimate import Items, Parameters, flops, image_tokens, memory, parameters
from polyvec.train.runs.run_file import Run, read_run
from recipes.arithmetic import UTILISATION, gigabytes, items, markdown

FOLDER = Path(__file__).parent
RUNS = ("pairs", "retrieval", "text-matching", "code")
PEAK_TFLOPS = 989  # an H100 SXM, bfloat16


def report() -> str:
    """Return the tables that the recipe's README has."""
    config = stock_config(FOLDER, license_name="apache-2.0")
    sizes = parameters(config)
    page = image_tokens(config.image.max_pixels, config)
    runs = {name: read_run(FOLDER / f"{name}.toml") for name in RUNS}
    items_of = {name: items(run, page) for name, run in runs.items()}

    def costs(name: str, chunk_tokens: int | None) -> dict[str, int]:
        trains = runs[name].trains_projector
        return memory(
            config, sizes, items_of[name], chunk_tokens=chunk_tokens, checkpointing=True, trains_projector=trains
        )

    def operations(step: Items, *, cached: bool = True) -> dict[str, float]:
        return flops(config, sizes, step, cached=cached, checkpointing=True)

    one = operations(Items(images=[page]))
    pages = {n: sum(costs("pairs", n * (page + 11)).values()) for n in (1, 4, 8, 16)}
    memories = [[name, gigabytes(n)] for name, n in costs("pairs", 8 * (page + 11)).items()]
    by_chunk = [f"{gigabytes(n)} GB with chunks of {_plural(k, 'page')}" for k, n in pages.items()]
    without = gigabytes(sum(costs("pairs", None).values()))
    # The stock shards with their untied head; what was trained has float32.
    disk = 2 * (sizes.base + sizes.embeddings) + 4 * (sizes.n_adapters * sizes.adapter + sizes.projector)
    times = [_time(name, run, items_of[name], sum(operations(items_of[name]).values())) for name, run in runs.items()]
    lines = [
        f"Parameters: {_parameters(sizes)}. A trained checkpoint takes {gigabytes(disk)} GB on disk.",
        "",
        *markdown(["memory of `pairs.toml`, chunks of 8 pages", "GB"], memories),
        "",
        f"In all {', '.join(by_chunk)}; without GradCache {without} GB.",
        "",
        *markdown([f"a page of {page} tokens", "TFLOP"], [[name, f"{n / 1e12:.1f}"] for name, n in one.items()]),
        "",
        *markdown(["run file", "items of a step", "tokens", "PFLOP", "seconds a step", "steps", "hours"], times),
    ]
    return "\n".join(lines)


def _parameters(sizes: Parameters) -> str:
    counts = {
        "embeddings": sizes.embeddings,
        "decoder": sizes.decoder,
        "vision tower": sizes.vision,
        "projector": sizes.projector,
        "LoRA of a task": sizes.adapter,
    }
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _time(name: str, run: Run, step: Items, operations: float) -> list[str]:
    seconds = operations / (PEAK_TFLOPS * 1e12 * UTILISATION)
    return [
        f"`{name}.toml`",
        f"{len(step.lengths):,}",
        f"{sum(step.lengths):,}",
        f"{operations / 1e15:.1f}",
        f"{seconds:.0f}",
        f"{run.steps:,}",
        f"{run.steps * seconds / 3600:.0f}",
    ]


def _plural(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' if n > 1 else ''}"


if __name__ == "__main__":
    print(report())
