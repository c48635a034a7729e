"""Optimizing a shard in a process of its own: the engine holds the interpreter lock for as long as that takes.

The child inherits the folder's lock. If its parent is killed, nobody else can open the folder until it has ended.
"""

import json
import subprocess
import sys
from pathlib import Path

import qdrant_edge as edge


def in_worker(shard: Path, lock_descriptor: int) -> bool:
    """Optimize a shard, which must not be open here; whether there was anything to do. Not on Windows.

    Raises:
        subprocess.CalledProcessError: the child failed; `stderr` says why. What the shard holds is safe.
    """
    command = [sys.executable, "-m", "qdrant_polyvec.edge.optimizing", str(shard)]
    ended = subprocess.run(  # noqa: S603 — this interpreter, this module and a path of ours
        command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, pass_fds=(lock_descriptor,)
    )
    return bool(json.loads(ended.stdout))


def main(shard: str) -> None:
    opened = edge.EdgeShard.load(shard)
    changed = opened.optimize()
    opened.flush()
    opened.close()
    sys.stdout.write(json.dumps(changed))


if __name__ == "__main__":
    main(sys.argv[1])
