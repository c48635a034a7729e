"""The network: Qwen2.5-VL with task adapters and two heads, and how it is kept on disk."""
