"""Training: the loop, the step, the optimiser, and validation."""
