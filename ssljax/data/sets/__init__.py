"""Sources of data: one file or folder each turns what a user has into a prepared data set."""
