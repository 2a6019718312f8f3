"""DeepFashion's Category and Attribute Prediction Benchmark (Liu et al., 2016)."""

FORMATS = ("deep_fashion/slides", "deep_fashion/official")  # see `builder`
