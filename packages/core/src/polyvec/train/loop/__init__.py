"""The trainer: steps, memory, processes, checkpoints."""
