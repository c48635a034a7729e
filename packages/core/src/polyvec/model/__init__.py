"""The network (Qwen2.5-VL with task adapters and two heads) and its format on disk."""
