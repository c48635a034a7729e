"""How long `import polyvec` takes beyond the interpreter's own start: `python benchmarks/import_time.py`."""

import statistics
import subprocess
import sys
import time

LIMIT = 0.3
ROUNDS = 7


def seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 — this interpreter, and code from below
    return time.perf_counter() - start


def main() -> None:
    seconds("import polyvec")  # compiles what is not compiled yet
    took = statistics.median(seconds("import polyvec") - seconds("pass") for _ in range(ROUNDS))
    print(f"import polyvec: {took:.2f} s beyond a bare interpreter, median of {ROUNDS}; the limit is {LIMIT} s")
    sys.exit(took > LIMIT)


if __name__ == "__main__":
    main()
