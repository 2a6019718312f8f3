from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssljax.methods import make_method
from ssljax.methods.jigsaw import Jigsaw
from ssljax.methods.method import Context, DataSpec
from ssljax.methods.tiles import cut, paste
from ssljax.report.puzzles import assign
from ssljax.settings.errors import InputError

pytestmark = pytest.mark.quick

RNG = np.random.default_rng(0)


def make_batch(method: Jigsaw, size: int = 4) -> dict[str, np.ndarray]:
    draws = [method.draw(np.random.default_rng(index)) for index in range(size)]
    side = method.image_size
    return {
        "image": RNG.integers(0, 256, (size, side, side, 3), dtype=np.uint8),
        **{key: np.stack([draw[key] for draw in draws]) for key in draws[0]},
    }


@pytest.mark.parametrize(("grid", "tile", "gap"), [(2, 113, 0), (3, 75, 0), (3, 75, 10), (4, 9, 3)])
def test_inputs_match_a_plain_loop_over_tiles(grid, tile, gap):
    method = Jigsaw(data=DataSpec(227), grid=grid, tile=tile, gap=gap)
    batch = make_batch(method)
    expected = np.zeros(batch["image"].shape, np.float32)
    window = tile - gap
    for example, image in enumerate(batch["image"] / 255 * 2 - 1):
        for place, source in enumerate(batch["permutation"][example]):
            y, x = (source // grid) * tile, (source % grid) * tile
            down, right = batch["offsets"][example, place] if gap else (0, 0)
            piece = image[y + down : y + down + window, x + right : x + right + window]
            y, x = (place // grid) * tile + gap // 2, (place % grid) * tile + gap // 2
            expected[example, y : y + window, x : x + window] = piece
    np.testing.assert_allclose(method.inputs(batch, None, True), expected, atol=1e-6)


@pytest.mark.parametrize("gap", [0, 5])
def test_normalised_tiles_match_a_plain_loop(gap):
    method = Jigsaw(data=DataSpec(90), grid=3, tile=30, gap=gap, normalize_tiles=True)
    plain = Jigsaw(data=DataSpec(90), grid=3, tile=30, gap=gap)
    batch = make_batch(method)
    batch["image"][0, :30, :30] = 77  # a plain tile stays plain
    expected = np.array(plain.inputs(batch, None, True))
    window = slice(gap // 2, gap // 2 + 30 - gap)
    for image in expected:
        for row, column in np.ndindex(3, 3):
            tile = image[30 * row : 30 * row + 30, 30 * column : 30 * column + 30]
            tile = tile[window, window]
            tile[:] = (tile - tile.mean()) / (tile.std() + 0.05)
    np.testing.assert_allclose(method.inputs(batch, None, True), expected, atol=2e-5)


@pytest.mark.parametrize("grid", [2, 3])
def test_targets_match_a_plain_loop_and_have_equal_variance(grid):
    method = Jigsaw(data=DataSpec(227), grid=grid, tile=50)
    permutations = np.stack([np.random.default_rng(i).permutation(grid**2) for i in range(3000)])
    targets = np.asarray(method.coordinates(permutations))
    for permutation, target in zip(permutations[:20], targets, strict=False):
        expected = []
        for source in permutation:
            row, column = source // grid, source % grid
            expected += [2 * row / (grid - 1) - 1, 2 * column / (grid - 1) - 1]
        np.testing.assert_allclose(target, expected, atol=1e-6)
    chance = method.chance(np.zeros(1, int))["mse"]
    np.testing.assert_allclose((targets**2).mean(axis=0), chance, rtol=0.1)


def test_the_slides_example_of_a_label():
    coordinates = [(1, 0), (0, 2), (1, 2), (1, 1), (0, 1), (2, 2), (0, 0), (2, 0), (2, 1)]
    permutation = np.array([[3 * row + column for row, column in coordinates]])
    targets = Jigsaw(data=DataSpec(227)).coordinates(permutation).reshape(9, 2)
    np.testing.assert_array_equal(np.asarray(targets) + 1, coordinates)


def test_metrics_match_a_plain_loop():
    method = Jigsaw(data=DataSpec(227))
    batch = make_batch(method, 6)
    targets = np.asarray(method.coordinates(batch["permutation"]))
    outputs = targets + RNG.normal(0, 0.4, targets.shape).astype(np.float32)
    outputs[0] = targets[0]
    metrics = method.metrics(outputs, Context(batch, None, None, {}, 0.0, {}))
    for example in range(6):
        right = []
        for tile, source in enumerate(batch["permutation"][example]):
            distances = [
                (outputs[example, 2 * tile] + 1 - cell // 3) ** 2
                + (outputs[example, 2 * tile + 1] + 1 - cell % 3) ** 2
                for cell in range(9)
            ]
            right.append(int(np.argmin(distances)) == source)
        error = np.mean((outputs[example] - targets[example]) ** 2)
        assert metrics["mse"][0][example] == pytest.approx(error, rel=1e-5)
        assert metrics["tiles_placed"][0][example] == pytest.approx(np.mean(right))
        assert metrics["puzzles_solved"][0][example] == all(right)
    assert metrics["puzzles_solved"][0][0] == 1


def test_chance_is_what_guessing_reaches():
    expected = {"mse": 2 / 3, "tiles_placed": 1 / 9, "puzzles_solved": 1 / math.factorial(9)}
    alone = Jigsaw(data=DataSpec(227), shortcuts=False)
    assert alone.chance(np.zeros(1, int)) == pytest.approx(expected)
    shortcuts = ("with_gap", "with_normalization", "in_grey")
    expected |= {f"tiles_placed_{name}": 1 / 9 for name in shortcuts}
    assert Jigsaw(data=DataSpec(227)).chance(np.zeros(1, int)) == pytest.approx(expected)


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
def test_paste_inverts_cut(grid, tile, seed):
    images = np.random.default_rng(seed).normal(size=(2, grid * tile, grid * tile, 3))
    tiles = cut(images, grid)
    np.testing.assert_array_equal(tiles[0, grid - 1], images[0, :tile, (grid - 1) * tile :])
    np.testing.assert_array_equal(paste(tiles, grid), images)


@given(st.integers(2, 5), st.integers(0, 10**6))
def test_exact_coordinates_are_placed_right(grid, seed):
    method = Jigsaw(data=DataSpec(100), grid=grid, tile=20)
    permutation = np.random.default_rng(seed).permutation(grid**2)[None]
    targets = method.coordinates(permutation)
    np.testing.assert_array_equal(method.placed(targets), permutation)
    np.testing.assert_array_equal(assign(np.asarray(targets).reshape(-1, 2), grid), permutation[0])


def test_permutations_are_uniform():
    method = Jigsaw(data=DataSpec(227), grid=2, tile=100)
    rng = np.random.default_rng(0)
    seen, counts = np.unique(
        [method.draw(rng)["permutation"] for _ in range(4800)], axis=0, return_counts=True
    )
    assert len(seen) == 24
    assert ((counts - 200) ** 2 / 200).sum() < 60  # 23 degrees of freedom; p < 1e-4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"grid": 4, "tile": 60}, "4×4 tiles of 60 px do not fit data.image_size=227.*1 to 56 px"),
        ({"grid": 1}, "method.grid must be >= 2, got 1"),
        ({"tile": 0}, "method.tile must be > 0"),
        ({"gap": 75}, r"method.gap must be < method.tile \(75\), got 75"),
        ({"gap": -1}, "method.gap must be >= 0"),
    ],
)
def test_a_puzzle_that_cannot_be_is_refused(options, said):
    with pytest.raises(InputError, match=said):
        make_method({"name": "jigsaw", **options}, DataSpec(227))
