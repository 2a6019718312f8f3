"""Reader processes and the memory that they share with the training process."""
