"""Weights from and to PyTorch: files, and name and layout tables."""
