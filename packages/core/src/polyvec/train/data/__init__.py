"""Training data: from files to the batches of steps."""
