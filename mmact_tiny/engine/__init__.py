"""Computes class scores: `engine` with PyTorch, `openvino` where that extra is installed."""
