"""The joint loss on tensors."""
