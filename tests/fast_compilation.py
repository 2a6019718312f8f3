"""XLA's flags for tests: compiling takes most of their time, and less without optimisations."""

FLAGS = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1"
)
