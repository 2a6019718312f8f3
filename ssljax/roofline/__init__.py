"""Roofline analysis: compiles the training step and bounds its speed by the chip's limits."""
