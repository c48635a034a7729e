"""Optimize a shard in a child process, because the engine holds the interpreter lock for as long as that takes.

The child inherits the folder's lock. If its parent is killed, the folder stays locked until the child ends.
"""

import json
import subprocess
import sys
from pathlib import Path

import qdrant_edge as edge


def in_worker(shard: Path, lock_descriptor: int) -> bool:
    """Optimize a shard that is not open here; True if it changed. A CalledProcessError lost nothing. Not on Windows."""
    command = [sys.executable, "-m", "qdrant_polyvec.edge.optimizing", str(shard)]
    completed = subprocess.run(  # noqa: S603 — this interpreter, this module and a path in the index folder
        command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, pass_fds=(lock_descriptor,)
    )
    return bool(json.loads(completed.stdout))


def main(shard: str) -> None:
    engine = edge.EdgeShard.load(shard)
    changed = engine.optimize()
    engine.flush()
    engine.close()
    sys.stdout.write(json.dumps(changed))


if __name__ == "__main__":
    main(sys.argv[1])
