"""XLA's flags for tests: compiling takes most of their time, and less without optimisations."""

from __future__ import annotations

import importlib.metadata

FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
# Newer versions end with an error at this flag; with older ones, programs compile twice as fast.
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11):
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
