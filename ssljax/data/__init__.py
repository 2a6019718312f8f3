"""Data sets, and the input pipeline from their records to batches."""
