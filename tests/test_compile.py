"""What a step costs: compiled here, and for TPUs where libtpu is installed."""

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

from ssljax import config_files
from ssljax.data import pipeline
from ssljax.errors import InputError
from ssljax.roofline import hlo, slices
from ssljax.roofline.bounds import Cost, bounds
from ssljax.roofline.chips import CHIPS, chip_of
from ssljax.roofline.step import compile_step, lower_step
from ssljax.training.run import make_run, open_class_names
from ssljax.training.run_step import make_run_step
from tests.conftest import REPOSITORY
from tests.kills import ENVIRONMENT

LIBTPU = importlib.util.find_spec("libtpu")

# A program of a TPU, cut down: 8×128 tiles, S(1) is fast memory. A fetch of 4 of 16 rows, a product
# with it, its sum over the devices, and a sum of one number.
TPU_TEXT = """
HloModule jit_f, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[]{:T(128)} add(%a, %b)
}

ENTRY %main.1_spmd (x: bf16[16,100], w: f32[5,7]) -> (f32[5,7]) {
  %x = bf16[16,100]{1,0:T(8,128)(2,1)} parameter(0), metadata={op_name="x"}
  %w = f32[5,7]{1,0:T(8,128)} parameter(1)
  %one = f32[]{:T(128)} constant(1)
  %slice-start = ((bf16[16,100]{1,0:T(8,128)(2,1)}), bf16[8,100]{1,0:T(8,128)(2,1)S(1)}, s32[]{:S(2)}) slice-start(%x), slice={[0:8], [0:100]}
  %slice-done = bf16[8,100]{1,0:T(8,128)(2,1)S(1)} slice-done(%slice-start)
  %fusion = f32[5,7]{1,0:T(8,128)} fusion(%slice-done, %w, %one), kind=kOutput, calls=%fused
  %psum = f32[5,7]{1,0:T(8,128)} all-reduce(%fusion), replica_groups={{0,1}}, to_apply=%add
  ROOT %tuple = (f32[5,7]{1,0:T(8,128)}) tuple(%psum)
}
"""  # noqa: E501
TILE = 8 * 128


def test_traffic_is_what_goes_to_and_from_hbm():
    program = hlo.parse(TPU_TEXT)
    fetch = TILE * 2  # bf16; what is written lies in fast memory
    fusion = TILE * 4 + 128 * 4 + TILE * 4  # two arrays and a padded number are read, one written
    all_reduce = 2 * TILE * 4
    one = 128 * 4
    assert program.argument_bytes() == 2 * TILE * 2 + TILE * 4
    assert program.all_reduce_bytes() == TILE * 4
    assert (
        program.memory_bytes()
        == fetch + TILE * 4 + one + TILE * 4 + all_reduce
        == (fetch + fusion + all_reduce)
    )


def test_the_body_of_a_loop_counts_as_often_as_it_is_run():
    def step(w, x):
        return jax.lax.fori_loop(0, 5, lambda _, y: jnp.tanh(y @ w), x)

    matrix = jax.ShapeDtypeStruct((256, 256), jnp.float32)
    text = jax.jit(step).lower(matrix, matrix).compile().as_text()
    assert " while(" in text
    once, five = hlo.parse(text).memory_bytes(), hlo.parse(text, trips=5).memory_bytes()
    body = (five - once) / 4
    assert 5 * 256**2 * 4 <= body <= 8 * 256**2 * 4  # product and tanh read and write matrices


def test_traffic_and_arguments_of_a_program_without_fast_memory_are_xlas_own():
    def step(a, b):
        return jnp.tanh(a @ b).sum(0)

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((64, 100), (100, 32))]
    compiled = jax.jit(step).lower(*shapes).compile()
    program = hlo.parse(compiled.as_text())
    assert program.argument_bytes() == compiled.memory_analysis().argument_size_in_bytes
    assert program.memory_bytes() == pytest.approx(
        compiled.cost_analysis()["bytes accessed"], rel=0.01
    )


def test_bounds_are_the_data_sheets_divisions():
    """v5e: 197 TFLOP/s, 819 GB/s, and two links of 50 GB/s from a corner of 2×4 chips."""
    cost = Cost(images=128, flops=394e9, memory_bytes=4.095e9, all_reduce_bytes=400e6)
    least = bounds(cost, CHIPS["v5e"], slices.parse("v5e:2x4"))
    assert least.arithmetic == pytest.approx(2e-3)
    assert least.memory == pytest.approx(5e-3)
    assert least.interconnect == pytest.approx(7e-3)  # 2 · 7/8 · 400 MB over 100 GB/s
    assert least.binds == "interconnect"
    assert (least.overlapped, least.in_turn) == pytest.approx((7e-3, 14e-3))
    alone = bounds(cost, CHIPS["v5e"], slices.parse("v5e:1x1"))
    assert (alone.binds, alone.interconnect) == ("memory", 0)
    assert bounds(cost, CHIPS["h100"]).overlapped == pytest.approx(4.095e9 / 3.35e12)


@pytest.mark.parametrize(
    ("topology", "chips", "links"),
    [
        ("v5e:1x1", 1, 0), ("v5e:2x2", 4, 2), ("v6e:8x16", 128, 3), ("v6e:16x16", 256, 4),
        ("v4:1x1x1", 1, 0), ("v4:2x2x1", 4, 2), ("v5p:2x2x4", 16, 3), ("v5p:4x4x8", 128, 6),
    ],
)  # fmt: skip
def test_links_of_a_slice(topology, chips, links):
    tpu_slice = slices.parse(topology)
    assert (tpu_slice.chips, tpu_slice.links, tpu_slice.name) == (chips, links, topology)


def test_slices_of_each_chip_have_one_to_256_chips():
    for name, shapes in slices.SLICES.items():
        counts = [slices.parse(f"{name}:{shape}").chips for shape in shapes]
        assert counts == [1, 4, 8, 16, 32, 64, 128, 256]


def test_whole_pods_sum_up_as_fast_as_google_says():
    """51.2 and 102.4 TB/s: https://cloud.google.com/tpu/docs/v5e and /v6e."""
    for name, published in (("v5e", 51.2e12), ("v6e", 102.4e12)):
        pod = slices.parse(f"{name}:16x16")
        assert pod.chips * pod.links * pod.chip.link == published


def test_chips_are_known_by_the_names_that_jax_gives_them():
    kinds = ["TPU v4", "TPU v5 lite", "TPU v5", "TPU v6 lite", "NVIDIA H100 80GB HBM3", "cpu"]
    chips = [chip_of(kind) for kind in kinds]
    assert [chip and chip.name for chip in chips] == ["v4", "v5e", "v5p", "v6e", "h100", None]


def test_without_libtpu_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'libtpu==[\d.*]+'"):
        slices.check_libtpu()


def alexnet_flops(size: int, outputs: int) -> int:
    """Of training on one image: multiply-adds on what is no padding, forward and twice backward."""
    total, channels = 0, 3
    for filters, kernel, stride, padding, pool in (
        (64, 11, 4, 2, True), (192, 5, 1, 2, True), (384, 3, 1, 1, False),
        (256, 3, 1, 1, False), (256, 3, 1, 1, True),
    ):  # fmt: skip
        places = range((size + 2 * padding - kernel) // stride + 1)
        inside = sum(
            0 <= place * stride + tap - padding < size for place in places for tap in range(kernel)
        )
        passes = 2 if channels == 3 else 3  # pictures have no gradient
        total += passes * inside**2 * channels * filters
        size = (len(places) - 3) // 2 + 1 if pool else len(places)
        channels = filters
    for inputs, width in ((36 * 256, 4096), (4096, 4096), (4096, outputs)):
        total += 3 * inputs * width
    return 2 * total


def full_config() -> ConfigDict:
    config = config_files.load(f"{REPOSITORY}/configs/jigsaw.py:3x3")
    config.batch_size = 64
    config.model.dtype = "bfloat16"  # in float32, a CPU has Winograd's convolutions
    return config


def test_arithmetic_and_memory_of_alexnet_are_what_a_loop_over_its_layers_counts():
    compiled = compile_step(full_config(), jax.devices()[:2])
    parameters = 57_077_586  # torchvision's with 18 outputs instead of 1000
    assert compiled.cost.images == 32
    # Beside the layers: Adam's dozen operations for each parameter, pooling, dropout, metrics.
    counted = 32 * alexnet_flops(225, 18) + 12 * parameters
    assert compiled.cost.flops == pytest.approx(counted, rel=0.05)
    state = 3 * 4 * parameters + 3 * 4  # parameters and two moments; the step, counted thrice
    batch = 32 * (3 * 225**2 + 9 * 4 + 1)  # pictures, permutations, mask; the rest is not used
    assert compiled.memory.arguments == state + batch
    assert compiled.memory.output < 1000  # the state is written over the one before
    metrics = compiled.cost.all_reduce_bytes - 4 * parameters
    assert 0 < metrics < 100


@pytest.mark.parametrize("task", ["jigsaw", "classification"])
def test_the_program_is_that_of_training(task, make_config):
    """Traced for shapes, and for a state and a batch of the input pipeline."""
    config = make_config(task)
    run = make_run(config, open_class_names(config))
    step = make_run_step(run, steps_per_epoch=1000)
    state = jax.tree.map(
        lambda x: jax.device_put(np.zeros(x.shape, x.dtype), step.parallelism.replicated()),
        jax.eval_shape(step.initial_state),
    )
    batch = next(pipeline.batches(
        run.pictures("images[:64]"), run.task, batch_size=32, epochs=1, seed=0, train=True,
    ))  # fmt: skip
    trained = step.train_step.lower(state, step.parallelism.put(batch))
    assert lower_step(config)[2].as_text() == trained.as_text()


def test_a_data_set_that_is_not_there_needs_its_number_of_classes(make_config):
    config = make_config("classification")
    config.data.dataset, config.data.data_dir = "deep_fashion/slides", "/none"
    with pytest.raises(InputError, match="'deep_fashion/slides' is prepared in /none"):
        lower_step(config)
    assert lower_step(config, num_classes=46)[0].task.num_outputs == 46


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ssljax.compile", "--config=tests/tiny.py:jigsaw", *arguments],
        cwd=REPOSITORY, env={**ENVIRONMENT, "JAX_NUM_CPU_DEVICES": "2"},
        capture_output=True, text=True,
    )  # fmt: skip


def test_the_command_compiles_for_this_machine():
    done = command()
    assert "batch         32 = 2 × 16, float32" in done.stdout, done.stderr
    assert "at most" not in done.stdout  # of a CPU, nothing is known
    indivisible = command("--config.batch_size=33")
    assert "batch_size: 33 does not divide over 2 devices" in indivisible.stderr
    assert indivisible.returncode == 2


@pytest.mark.skipif(not LIBTPU, reason="needs libtpu")
def test_the_command_compiles_for_a_slice_that_is_not_there():
    done = command("--topology=v5e:2x2", "--json")
    assert not done.returncode, done.stderr
    result = json.loads(done.stdout)
    assert (result["devices"], result["batch_size"]) == (4, 32)
    assert (result["device"], result["dtype"]) == ("TPU v5 lite", "bfloat16")
    assert result["step"]["all_reduce_bytes"] > 900_000
    assert 0 < result["step"]["memory_bytes"] < result["step"]["bytes_accessed"]
    assert 0 < result["memory"]["total"] < result["memory"]["chip"]
    assert result["bounds"]["binds"] in ("memory", "interconnect")


@pytest.mark.skipif(not LIBTPU, reason="needs libtpu")
@pytest.mark.parametrize("topology", ["v4:1x1x1", "v6e:2x4"])
def test_arrays_of_a_tpu_program_have_the_sizes_that_xla_gives_them(topology):
    code = f"""
from ssljax.roofline import slices
slices.prepare_environment()
from ssljax import config_files
from ssljax.roofline.step import compile_step
tpu_slice = slices.parse({topology!r})
config = config_files.load("tests/tiny.py:jigsaw")
compiled = compile_step(config, slices.devices(tpu_slice))
assert len(compiled.devices) == tpu_slice.chips
assert compiled.devices[0].device_kind == tpu_slice.chip.device_kind
assert compiled.program.argument_bytes() == compiled.memory.arguments
"""
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env=ENVIRONMENT, check=True)
