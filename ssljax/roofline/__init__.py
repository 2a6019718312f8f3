"""What a training step costs on a chip that need not be there: compiled, then set against it."""
