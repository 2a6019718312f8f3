"""DeepFashion's Category and Attribute Prediction Benchmark (Liu et al., 2016)."""
