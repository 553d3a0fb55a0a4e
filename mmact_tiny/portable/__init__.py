"""Runs what `tools/export.py --format onnx` wrote, without PyTorch, MMEngine or MMAction2.

`views` makes the views of a video, `recognizer` asks ONNX Runtime for their scores. What is in
the file beside the network is described in docs/export.md.
"""
