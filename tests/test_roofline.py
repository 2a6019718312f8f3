"""Costs read from compiled programs, and bounds."""

from __future__ import annotations

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from ssljax.roofline import hlo, slices
from ssljax.roofline.arithmetic import flops
from ssljax.roofline.bounds import Cost, bounds
from ssljax.roofline.chips import CHIPS, chip_of
from ssljax.roofline.collectives import collective_bytes, sent_bytes
from ssljax.roofline.loops import unknown_trip_counts
from ssljax.roofline.traffic import argument_bytes, memory_bytes

LIBTPU = importlib.util.find_spec("libtpu")

# A shortened program of a TPU with tiles of 8×128. S(1) is on-chip memory. It fetches 8 of 16 rows,
# multiplies them, sums the product over the devices, and adds a scalar.
TPU_TEXT = """
HloModule jit_f, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[]{:T(128)} add(%a, %b)
}

%fused (p: bf16[8,100], q: f32[5,7], r: f32[]) -> f32[5,7] {
  %p = bf16[8,100]{1,0:T(8,128)(2,1)S(1)} parameter(0)
  %q = f32[5,7]{1,0:T(8,128)} parameter(1)
  %r = f32[]{:T(128)} parameter(2)
  ROOT %result = f32[5,7]{1,0:T(8,128)} map(%p, %q, %r)
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


# A loop of a TPU, whose program does not contain trip counts.
TPU_LOOP = """
%body (state: (s32[], f32[4,8], f32[8,8])) -> (s32[], f32[4,8], f32[8,8]) {
  %step = s32[] constant(STEP)
  %state = (s32[], f32[4,8], f32[8,8]) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %i.copy = s32[] copy(%i)
  %next = s32[] add(%i.copy, %step)
  %y = f32[4,8] get-tuple-element(%state), index=1
  %w = f32[8,8] get-tuple-element(%state), index=2
  %product = f32[4,8] convolution(%y, %w), dim_labels=bf_io->bf
  ROOT %result = (s32[], f32[4,8], f32[8,8]) tuple(%next, %product, %w)
}

%condition (state.1: (s32[], f32[4,8], f32[8,8])) -> pred[] {
  %state.1 = (s32[], f32[4,8], f32[8,8]) parameter(0)
  %stop = s32[] constant(17)
  %i.1 = s32[] get-tuple-element(%state.1), index=0
  ROOT %lt = pred[] compare(%i.1, %stop), direction=LT
}

ENTRY %main (x: f32[4,8], w.1: f32[8,8]) -> f32[4,8] {
  %x = f32[4,8] parameter(0)
  %w.1 = f32[8,8] parameter(1)
  %start = s32[] constant(3)
  %initial = (s32[], f32[4,8], f32[8,8]) tuple(%start, %x, %w.1)
  %loop = (s32[], f32[4,8], f32[8,8]) while(%initial), condition=%condition, body=%body
  ROOT %last = f32[4,8] get-tuple-element(%loop), index=1
}
"""
# Asynchronous collectives, and a TPU's reduce-scatter, which is a fusion.
TPU_COLLECTIVES = """
%all-reduce-scatter (input: f32[64,128]) -> f32[16,128] {
  %input = f32[64,128] parameter(0)
  %sum = f32[64,128] all-reduce(%input), to_apply=%add
  %zero = s32[] constant(0)
  ROOT %part = f32[16,128] dynamic-slice(%sum, %zero, %zero), dynamic_slice_sizes={16,128}
}

ENTRY %main (x: f32[16,128]) -> f32[16,128] {
  %x = f32[16,128] parameter(0)
  %gather = (f32[16,128], f32[64,128]) all-gather-start(%x), dimensions={0}
  %gathered = f32[64,128] all-gather-done(%gather)
  %scattered = f32[16,128] fusion(%gathered), kind=kCustom, calls=%all-reduce-scatter
  %permute = (f32[16,128], f32[16,128], u32[], u32[]) collective-permute-start(%scattered)
  %permuted = f32[16,128] collective-permute-done(%permute)
  %reduce = f32[16,128] all-reduce-start(%permuted), to_apply=%add
  ROOT %reduced = f32[16,128] all-reduce-done(%reduce)
}
"""
# Calls of cuBLAS and cuDNN.
GPU_TEXT = """
ENTRY %main (a: f32[4,8], b: f32[8,16], x: f32[2,4,4,5], k: f32[3,3,5,6], y: f32[2,4,4,6]) -> f32[] {
  %a = f32[4,8] parameter(0)
  %b = f32[8,16] parameter(1)
  %x = f32[2,4,4,5] parameter(2)
  %k = f32[3,3,5,6] parameter(3)
  %y = f32[2,4,4,6] parameter(4)
  %gemm = (f32[4,16], s8[64]) custom-call(%a, %b), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
  %forward = (f32[2,4,4,6], u8[0]) custom-call(%x, %k), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$convForward"
  %input = (f32[2,4,4,5], u8[0]) custom-call(%y, %k), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$convBackwardInput"
  %filter = (f32[3,3,5,6], u8[0]) custom-call(%x, %y), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$convBackwardFilter"
  ROOT %other = f32[] custom-call(%a), custom_call_target="other"
}
"""  # noqa: E501


def array(*shape: int, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def compiled_program(function, *shapes: jax.ShapeDtypeStruct) -> tuple[hlo.Program, dict]:
    """The program of a function, and XLA's cost analysis."""
    compiled = jax.jit(function).lower(*shapes).compile()
    return hlo.parse(compiled.as_text()), compiled.cost_analysis()


def test_memory_traffic_counts_what_moves_from_and_to_hbm():
    program = hlo.parse(TPU_TEXT)
    fetch = TILE * 2  # bfloat16; the target is in on-chip memory
    fusion = TILE * 4 + 128 * 4 + TILE * 4  # reads a matrix and a padded scalar, writes a matrix
    all_reduce = 2 * TILE * 4
    assert argument_bytes(program) == 2 * TILE * 2 + TILE * 4
    assert collective_bytes(program) == {"all-reduce": TILE * 4}
    assert memory_bytes(program) == fetch + fusion + all_reduce


def test_each_loop_counts_with_its_own_trip_count():
    def step(w, x):
        x = jax.lax.scan(lambda y, _: (jnp.tanh(y @ w), None), x, length=5)[0]
        return jax.lax.scan(lambda y, _: (jnp.sin(w @ y @ w), None), x, length=3)[0]

    program, analysis = compiled_program(step, array(64, 64), array(64, 64))
    product = 2 * 64**3
    assert flops(program) == (5 * 1 + 3 * 2) * product
    assert flops(program, repeat_loops=False) == 3 * product
    assert 3 * product <= analysis["flops"] < 3.1 * product  # XLA counts each body once
    assert unknown_trip_counts(program) == 0
    moved = memory_bytes(program) - memory_bytes(program, repeat_loops=False)
    matrix = 64**2 * 4
    # Per iteration: a product reads two matrices and writes one; tanh and sin read and write one.
    counted = (4 * (3 + 2) + 2 * (3 + 3 + 2)) * matrix
    assert counted <= moved <= 1.5 * counted


def test_trip_counts_of_nested_loops_multiply():
    def step(w, x):
        def outer(y, _):
            return jax.lax.scan(lambda y, _: (jnp.tanh(y @ w), None), y @ w, length=5)[0], None

        return jax.lax.scan(outer, x, length=3)[0]

    program, _ = compiled_program(step, array(64, 64), array(64, 64))
    assert flops(program) == 3 * (1 + 5) * 2 * 64**3
    assert flops(program, repeat_loops=False) == 2 * 2 * 64**3


def test_a_loop_without_a_trip_count_counts_once():
    def step(w, x):
        return jax.lax.while_loop(lambda y: y[0, 0] < 3, lambda y: y @ w, x)

    program, _ = compiled_program(step, array(64, 64), array(64, 64))
    assert unknown_trip_counts(program) == 1
    assert flops(program) == 2 * 64**3


@pytest.mark.parametrize(("step", "trips"), [(1, 14), (4, 4), (0, None)])
def test_a_tpu_loop_counts_from_one_constant_to_another(step, trips):
    program = hlo.parse(TPU_LOOP.replace("STEP", str(step)))
    assert flops(program) == (trips or 1) * 2 * 4 * 8 * 8
    assert unknown_trip_counts(program) == (trips is None)


def test_the_largest_branch_of_a_conditional_counts():
    def step(flag, w, x):
        return jax.lax.cond(flag, lambda: x @ w, lambda: x @ w @ w @ w)

    program, _ = compiled_program(step, array(dtype=bool), array(64, 64), array(64, 64))
    assert flops(program) == 3 * 2 * 64**3


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("gradient", [None, 0, 1])
def test_flops_of_a_convolution_are_those_of_xla(stride, groups, gradient):
    def convolution(x, k):
        return jax.lax.conv_general_dilated(
            x, k, (stride, stride), "SAME", rhs_dilation=(1, 2), feature_group_count=groups,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    def gradients(x, k):
        return jax.grad(lambda *both: convolution(*both).sum(), gradient)(x, k)

    function = convolution if gradient is None else gradients
    program, analysis = compiled_program(function, array(2, 16, 15, 8), array(3, 3, 8 // groups, 6))
    assert flops(program) == analysis["flops"] > 40_000


def test_flops_of_a_gpus_custom_calls():
    inside = (3 * 4 - 2) ** 2  # pairs of an output and a kernel position that are not in padding
    convolution = 2 * 2 * inside * 5 * 6
    assert flops(hlo.parse(GPU_TEXT)) == 2 * 4 * 16 * 8 + 3 * convolution


def test_a_loop_over_slices_reads_each_slice_once():
    def step(w, xs):
        return jax.lax.scan(lambda y, x: (jnp.tanh(y @ w + x), y), jnp.zeros((64, 64)), xs)

    program, _ = compiled_program(step, array(64, 64), array(50, 64, 64))
    matrix = 64**2 * 4
    # Reading and writing the whole of `xs` and `ys` in each iteration would be 100 matrices.
    assert 7 * matrix < memory_bytes(program) / 50 < 15 * matrix


def test_memory_traffic_and_arguments_on_a_cpu_are_those_of_xla():
    def step(a, b):
        return jnp.tanh(a @ b).sum(0)

    compiled = jax.jit(step).lower(array(64, 100), array(100, 32)).compile()
    program = hlo.parse(compiled.as_text())
    assert argument_bytes(program) == compiled.memory_analysis().argument_size_in_bytes
    accessed = compiled.cost_analysis()["bytes accessed"]
    assert memory_bytes(program) == pytest.approx(accessed, rel=0.01)


def test_bytes_of_collectives_by_kind():
    """On 4 devices with f32[16, 8] on each."""

    def step(x):
        gathered = jax.lax.all_gather(x, "d", tiled=True)  # [64, 8]
        scattered = jax.lax.psum_scatter(jnp.tanh(gathered), "d", tiled=True)  # [16, 8]

        def shift(y, _):
            return jax.lax.ppermute(jnp.sin(y), "d", [(i, (i + 1) % 4) for i in range(4)]), None

        shifted = jax.lax.scan(shift, scattered, length=3)[0]
        exchanged = jax.lax.all_to_all(jnp.cos(shifted), "d", 0, 1, tiled=True)  # [4, 32]
        return jax.lax.psum(exchanged[:2], "d")  # [2, 32]

    mesh = Mesh(np.array(jax.devices()), ("d",))
    sharded = jax.shard_map(step, mesh=mesh, in_specs=P("d"), out_specs=P(), check_vma=False)
    program, _ = compiled_program(sharded, array(64, 8))
    counted = collective_bytes(program)
    assert counted == {
        "all-reduce": 2 * 32 * 4,
        "all-gather": 64 * 8 * 4,
        "reduce-scatter": 64 * 8 * 4,
        "all-to-all": 16 * 8 * 4,
        "collective-permute": 3 * 16 * 8 * 4,
    }
    # Of the all-reduce, a device sends 3/4 twice; of all-gather, reduce-scatter and all-to-all 3/4.
    assert sent_bytes(counted, 4) == 2 * 192 + 1536 + 1536 + 384 + 1536
    assert sent_bytes(counted, 1) == 0


def test_bytes_of_a_tpus_collectives():
    program = hlo.parse(TPU_COLLECTIVES)
    part = 16 * 128 * 4
    assert collective_bytes(program) == {
        "all-reduce": part,
        "all-gather": 4 * part,
        "reduce-scatter": 4 * part,
        "collective-permute": part,
    }
    # Each reads its operand and writes its result; the two contexts of the permute have 4 bytes.
    assert memory_bytes(program) == (1 + 4) * part + (4 + 1) * part + 2 * part + 8 + 2 * part


def test_bounds_are_cost_divided_by_the_limits_of_the_chip():
    """v5e: 197 TFLOP/s, 819 GB/s, and two links of 50 GB/s from a corner of 2×4 chips."""
    cost = Cost(128, 394e9, 4.095e9, {"all-reduce": 400e6})
    least = bounds(cost, CHIPS["v5e"], slices.parse("v5e:2x4"))
    assert least.arithmetic == pytest.approx(2e-3)
    assert least.memory == pytest.approx(5e-3)
    assert least.interconnect == pytest.approx(7e-3)  # 2 · 7/8 · 400 MB over 100 GB/s
    assert least.binds == "interconnect"
    assert (least.overlapped, least.in_turn) == pytest.approx((7e-3, 14e-3))
    alone = bounds(cost, CHIPS["v5e"], slices.parse("v5e:1x1"))
    assert (alone.binds, alone.interconnect) == ("memory", 0)
    assert bounds(cost, CHIPS["h100"]).overlapped == pytest.approx(4.095e9 / 3.35e12)
    gathered = Cost(128, 394e9, 4.095e9, {"all-gather": 800e6, "collective-permute": 100e6})
    least = bounds(gathered, CHIPS["v5e"], slices.parse("v5e:2x4"))
    assert least.interconnect == pytest.approx(8e-3)  # 7/8 · 800 MB + 100 MB over 100 GB/s


@pytest.mark.quick
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


def test_the_all_reduce_bandwidth_of_a_pod_is_the_published_one():
    """51.2 and 102.4 TB/s: https://cloud.google.com/tpu/docs/v5e and /v6e."""
    for name, published in (("v5e", 51.2e12), ("v6e", 102.4e12)):
        pod = slices.parse(f"{name}:16x16")
        assert pod.chips * pod.links * pod.chip.link == published


def test_chips_are_found_by_device_kind():
    kinds = ["TPU v4", "TPU v5 lite", "TPU v5", "TPU v6 lite", "NVIDIA H100 80GB HBM3", "cpu"]
    chips = [chip_of(kind) for kind in kinds]
    assert [chip and chip.name for chip in chips] == ["v4", "v5e", "v5p", "v6e", "h100", None]
