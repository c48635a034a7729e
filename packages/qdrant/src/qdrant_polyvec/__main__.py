"""Run the command `polyvec`."""

from polyvec.cli import main

if __name__ == "__main__":
    main(prog_name="python -m qdrant_polyvec")
