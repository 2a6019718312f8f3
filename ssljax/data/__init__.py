"""From the records of a prepared data set to batches of uint8 images."""
