"""`python -m ssljax.compile`, and the step it compiles."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from ssljax.compile import describe
from ssljax.data import pipeline
from ssljax.methods.jigsaw import Jigsaw
from ssljax.roofline.arithmetic import flops
from ssljax.roofline.step import compile_step, lower_step
from ssljax.runs.run import open_run
from ssljax.settings import config_files
from ssljax.settings.errors import InputError
from ssljax.training.run_step import make_run_step
from tests.commands import run
from tests.conftest import REPOSITORY
from tests.kills import ENVIRONMENT

LIBTPU = importlib.util.find_spec("libtpu")


def alexnet_flops(size: int, outputs: int) -> int:
    """FLOPs of a forward and two backward passes for one image, without padding."""
    total, channels = 0, 3
    for filters, kernel, stride, padding, pool in (
        (64, 11, 4, 2, True), (192, 5, 1, 2, True), (384, 3, 1, 1, False),
        (256, 3, 1, 1, False), (256, 3, 1, 1, True),
    ):  # fmt: skip
        places = range((size + 2 * padding - kernel) // stride + 1)
        inside = sum(
            0 <= place * stride + tap - padding < size for place in places for tap in range(kernel)
        )
        passes = 2 if channels == 3 else 3  # images have no gradient
        total += passes * inside**2 * channels * filters
        size = (len(places) - 3) // 2 + 1 if pool else len(places)
        channels = filters
    for inputs, width in ((36 * 256, 4096), (4096, 4096), (4096, outputs)):
        total += 3 * inputs * width
    return 2 * total


def full_config() -> ConfigDict:
    config = config_files.load(f"{REPOSITORY}/configs/jigsaw.py:3x3")
    config.batch_size = 64
    config.model.dtype = "bfloat16"  # float32 on a CPU uses Winograd convolutions
    return config


def test_flops_and_memory_of_alexnet_equal_a_count_over_its_layers():
    compiled = compile_step(full_config(), jax.devices()[:2])
    parameters = 57_077_586  # torchvision's with 18 outputs instead of 1000
    assert compiled.cost.images == 32
    # The rest is Adam with about 12 operations per parameter, pooling, dropout and metrics.
    counted = 32 * alexnet_flops(225, 18) + 12 * parameters
    assert compiled.cost.flops == pytest.approx(counted, rel=0.05)
    state = 3 * 4 * parameters + 3 * 4  # parameters and two moments; three step counters
    batch = 32 * (3 * 225**2 + 9 * 4 + 4 + 1)  # images, permutations, records, mask
    assert compiled.memory.arguments == state + batch
    assert compiled.memory.output < 1000  # the new state replaces the old one
    assert compiled.unknown_trip_counts == 0
    assert list(compiled.cost.collective_bytes) == ["all-reduce"]
    metrics = compiled.cost.collective_bytes["all-reduce"] - 4 * parameters
    assert 0 < metrics < 100


def test_accumulation_multiplies_the_loops_inside_a_micro_batch(make_config, monkeypatch):
    """A method with a scan of 5 products [b, 64] × [64, 64], on 16 images in 4 micro-batches."""
    inputs = Jigsaw.inputs

    def inputs_with_scan(self, batch, keys, train):
        image = inputs(self, batch, keys, train)
        weights, rows = image[0, :, :, 0], image[:, 0, :, 0]
        scanned = jax.lax.scan(lambda y, _: (jnp.tanh(y @ weights), None), rows, length=5)[0]
        return image + scanned.mean()

    config = make_config("jigsaw").unlock()
    whole = compile_step(config, jax.devices()[:2])
    config.gradient_accumulation_steps = 4
    parts = compile_step(config, jax.devices()[:2])
    monkeypatch.setattr(Jigsaw, "inputs", inputs_with_scan)
    scanned = compile_step(config, jax.devices()[:2])
    assert flops(parts.program) == flops(whole.program)
    assert flops(scanned.program) - flops(parts.program) == 5 * 2 * 16 * 64**2
    assert parts.cost.flops == pytest.approx(whole.cost.flops, rel=0.1)
    assert scanned.unknown_trip_counts == 0
    # Gradients are summed once per step.
    sums = [each.cost.collective_bytes["all-reduce"] for each in (whole, parts, scanned)]
    assert sums == pytest.approx([sums[0]] * 3, rel=1e-3)


def test_the_loop_over_the_blocks_of_a_vision_transformer_counts_each_of_them(make_config):
    config = make_config("classification").copy_and_resolve_references().unlock()
    config.init_layers, config.batch_size = "backbone", 16
    counts = []
    for depth in (2, 5):
        config.model = {"name": "vit_tiny", "patch": 8, "depth": depth}
        compiled = compile_step(config, jax.devices()[:2])
        assert compiled.unknown_trip_counts == 0
        counts.append(compiled.cost.flops)
    tokens, channels, images = 65, 192, 8
    # Query, key, value and projection, two layers of four times the channels, and attention.
    block = tokens * channels**2 * (3 + 1 + 4 + 4) + 2 * tokens**2 * channels
    parameters = 12 * channels**2
    counted = 3 * (3 * 2 * images * block + 12 * parameters)  # three blocks more; Adam
    assert counts[1] - counts[0] == pytest.approx(counted, rel=0.05)


@pytest.mark.parametrize("method", ["simclr", "swav", "moco_v2", "mae"])
def test_collectives_and_loops_of_all_kinds_of_methods_are_known(method, make_config):
    config = make_config(f"{method},small_net" if method != "mae" else method)
    compiled = compile_step(config, jax.devices()[:2])
    assert compiled.unknown_trip_counts == 0
    assert compiled.cost.collective_bytes["all-reduce"] > 0
    if method == "simclr":  # the embeddings of the other device, and their gradients
        assert set(compiled.cost.collective_bytes) > {"all-reduce"}


@pytest.mark.parametrize("method", ["jigsaw", "classification"])
def test_the_program_is_that_of_training(method, make_config):
    """Lowered from shapes, and from a state and a batch of the input pipeline."""
    config = make_config(method)
    run = open_run(config)
    step = make_run_step(run, steps_per_epoch=1000)
    state = jax.tree.map(
        lambda x: jax.device_put(np.zeros(x.shape, x.dtype), step.parallelism.replicated()),
        jax.eval_shape(step.initial_state),
    )
    batch = next(pipeline.batches(
        run.images("images[:64]"), run.method.draw, batch_size=32, epochs=1, seed=0, train=True,
    ))  # fmt: skip
    trained = step.train_step.lower(state, step.parallelism.put(batch))
    assert lower_step(config)[2].as_text() == trained.as_text()


def test_num_classes_replaces_a_missing_data_set(make_config):
    config = make_config("classification")
    config.data.dataset, config.data.data_dir = "deep_fashion/slides", "/none"
    with pytest.raises(InputError, match="'deep_fashion/slides' is prepared in /none"):
        lower_step(config)
    assert lower_step(config, num_classes=46)[0].method.data.num_classes == 46


def test_the_command_compiles_for_this_machine():
    config = "--config=tests/tiny.py:jigsaw"
    done = run("compile", config)
    assert "batch         32 = 2 × 16, float32" in done.stdout
    assert "collectives   all-reduce 907 kB per step" in done.stdout
    assert "at most" not in done.stdout  # the limits of a CPU are unknown
    assert "trip count" not in done.stdout
    indivisible = run("compile", config, "--config.batch_size=33", code=2)
    assert "batch_size: 33 does not divide among 2 devices" in indivisible.stderr


def test_the_output_names_collectives_and_unknown_trip_counts():
    result = {
        "topology": "", "device": "cpu", "devices": 1, "dtype": "float32", "batch_size": 2,
        "seconds_to_compile": 1.0,
        "memory": dict.fromkeys(("arguments", "temporaries", "output", "program", "total"), 1),
        "step": {
            "images": 2, "flops": 4e9, "bytes_accessed": 1e6, "memory_bytes": 1e6,
            "collective_bytes": {"all-reduce": 2e6, "all-gather": 3e3}, "unknown_trip_counts": 2,
        },
    }  # fmt: skip
    text = "\n".join(describe(result))
    assert "collectives   all-reduce 2 MB, all-gather 3 kB per step" in text
    assert "loops with an unknown trip count: 2; their bodies count once" in text


@pytest.mark.skipif(not LIBTPU, reason="needs libtpu")
def test_the_command_compiles_for_a_tpu_slice():
    done = run("compile", "--config=tests/tiny.py:jigsaw", "--topology=v5e:2x2", "--json")
    result = json.loads(done.stdout)
    assert (result["devices"], result["batch_size"]) == (4, 32)
    assert (result["device"], result["dtype"]) == ("TPU v5 lite", "bfloat16")
    assert result["step"]["collective_bytes"]["all-reduce"] > 900_000
    assert result["step"]["unknown_trip_counts"] == 0
    assert 0 < result["step"]["memory_bytes"] < result["step"]["bytes_accessed"]
    assert 0 < result["memory"]["total"] < result["memory"]["chip"]
    assert result["bounds"]["binds"] in ("memory", "interconnect")


@pytest.mark.skipif(not LIBTPU, reason="needs libtpu")
@pytest.mark.parametrize("topology", ["v4:1x1x1", "v6e:2x4"])
def test_arrays_of_a_tpu_program_have_the_sizes_that_xla_gives_them(topology):
    code = f"""
from ssljax.roofline import slices, traffic
slices.prepare_environment()
from ssljax.settings import config_files
from ssljax.roofline.step import compile_step
tpu_slice = slices.parse({topology!r})
config = config_files.load("tests/tiny.py:jigsaw")
compiled = compile_step(config, slices.devices(tpu_slice))
assert len(compiled.devices) == tpu_slice.chips
assert compiled.devices[0].device_kind == tpu_slice.chip.device_kind
assert traffic.argument_bytes(compiled.program) == compiled.memory.arguments
"""
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env=ENVIRONMENT, check=True)
