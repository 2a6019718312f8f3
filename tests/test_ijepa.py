"""I-JEPA: masks, the predictor and the loss against other programs, and whole steps in PyTorch."""

from __future__ import annotations

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.methods import make_method
from ssljax.methods.method import Context, DataSpec
from ssljax.models.predictor import Predictor
from ssljax.models.torch import layouts
from ssljax.runs.config import resolve
from ssljax.runs.run import open_run
from ssljax.settings.errors import InputError
from ssljax.views.keys import record_keys
from ssljax.views.multiblock import draw_blocks, largest_block
from tests import references, ten_steps, tiny
from tests.networks import timm_blocks
from tests.test_backbones_equal_to_torchvision import FAST, nchw

torch = references.load("torch")
timm = references.load("timm.models.vision_transformer")
predictor_module = references.load("lightly.models.modules.ijepa_timm")
pytestmark = pytest.mark.reference
SCALES, RATIOS = (0.15, 0.2), (0.75, 1.5)
TINY = tiny.get_config("ijepa").model.to_dict()


def method_of(side=8, **options):
    return make_method({"name": "ijepa", **options}, DataSpec(4 * side, patch=4))


def masks_of(method, records, epoch=0):
    size = method.image_size
    images = jnp.zeros((len(records), size, size, 3), jnp.uint8)
    sizes = jnp.full(len(records), size)
    batch = {"image": images, "height": sizes, "width": sizes, "record": jnp.asarray(records)}
    keys = record_keys(0, epoch, batch["record"])
    return jax.tree.map(np.asarray, jax.jit(method.inputs, static_argnums=2)(batch, keys, False))


def plain_block(rng, side, scales, ratios):
    """The rule of the paper's section 3, in plain Python."""
    area = int(side * side * rng.uniform(*scales))
    ratio = rng.uniform(*ratios)
    rows = min(side, round((area * ratio) ** 0.5))
    columns = min(side, round((area / ratio) ** 0.5))
    top, left = rng.integers(side - rows + 1), rng.integers(side - columns + 1)
    block = np.zeros((side, side), bool)
    block[top : top + rows, left : left + columns] = True
    return block, (rows, columns)


@pytest.mark.quick
@pytest.mark.parametrize("side", [7, 14])
def test_blocks_have_the_published_sizes_and_are_equally_likely_where_they_fit(side):
    count = 4000
    keys = record_keys(0, None, jnp.arange(count))
    blocks = np.asarray(draw_blocks(keys, 4, side, SCALES, RATIOS)).reshape(-1, side, side)
    rows, columns = blocks.any(axis=2), blocks.any(axis=1)
    np.testing.assert_array_equal(blocks, rows[:, :, None] & columns[:, None, :])
    for line in (rows, columns):  # in one piece
        assert (np.diff(line.astype(int), axis=1, prepend=0, append=0) == 1).sum(axis=1).max() == 1
    rng = np.random.default_rng(0)
    drawn = [plain_block(rng, side, SCALES, RATIOS) for _ in range(len(blocks))]
    sizes = np.stack([rows.sum(axis=1), columns.sum(axis=1)], axis=1).tolist()
    ours = collections.Counter(map(tuple, sizes))
    theirs = collections.Counter(size for _, size in drawn)
    for size in ours | theirs:
        error = np.sqrt(max(ours[size], theirs[size]) * 2)
        assert abs(ours[size] - theirs[size]) < 5 * error, size
    expected = np.mean([block for block, _ in drawn], axis=0)
    error = np.sqrt(2 * expected * (1 - expected) / len(blocks))
    assert (expected > 0).all()  # the first and the last row and column are in some
    assert (np.abs(blocks.mean(axis=0) - expected) < 5 * error).all()
    assert max(rows * columns for rows, columns in ours) == largest_block(side, SCALES, RATIOS)
    # Blocks of a record are drawn independently.
    tops = rows.argmax(axis=1).reshape(count, 4)
    assert np.abs(np.corrcoef(tops.T)[~np.eye(4, dtype=bool)]).max() < 5 / np.sqrt(count)


@pytest.mark.quick
@pytest.mark.parametrize("side", [1, 2, 3, 4, 9, 16])
def test_no_block_is_larger_than_the_largest(side):
    for scales, ratios in ((SCALES, RATIOS), ((0.5, 1.0), (0.2, 5.0)), ((0.01, 0.02), (1, 1))):
        keys = record_keys(0, None, jnp.arange(500))
        sizes = np.asarray(draw_blocks(keys, 4, side, scales, ratios)).sum(axis=2)
        assert sizes.min() >= 1
        assert sizes.max() <= largest_block(side, scales, ratios)


@pytest.mark.parametrize("side", [7, 14])
def test_contexts_and_targets_have_no_patch_in_common_and_cover_the_image(side):
    count, method = 2000, method_of(side)
    masks = masks_of(method, np.arange(count))
    keep, places, counted = masks["keep"], masks["places"], masks["counted"]
    assert keep.shape == (count, side**2 // 4)
    assert places.shape[1] == 4
    context = np.zeros((count, side**2), bool)
    np.put_along_axis(context, keep, True, axis=1)
    assert (context.sum(axis=1) == method.kept).all()
    targets = np.zeros((count, 4, side**2), bool)
    np.put_along_axis(targets, places, counted, axis=2)
    assert (targets.sum(axis=2) == counted.sum(axis=2)).all()  # none occurs twice
    assert not (targets.any(axis=1) & context).any()
    # The same by a plain program: how often each patch is in the context and in a target.
    rng, expected, wanted = np.random.default_rng(1), np.zeros(side**2), np.zeros(side**2)
    for _ in range(count):
        blocks = [plain_block(rng, side, SCALES, RATIOS)[0].ravel() for _ in range(4)]
        square = plain_block(rng, side, (0.85, 1.0), (1, 1))[0].ravel()
        target = np.any(blocks, axis=0)
        parts = (square & ~target, ~square & ~target, target)
        order = np.concatenate([rng.permutation(np.flatnonzero(part)) for part in parts])
        expected[order[: method.kept]] += 1 / count
        wanted[np.setdiff1d(np.flatnonzero(target), order[: method.kept])] += 1 / count
    for ours, theirs in ((context, expected), (targets.any(axis=1), wanted)):
        assert ours.any(axis=0).all()
        error = np.sqrt(2 * theirs * (1 - theirs) / count)
        assert (np.abs(ours.mean(axis=0) - theirs) < 5 * error).all()
    # Targets give patches away only where the rest of the image does not suffice.
    whole = counted.sum(axis=2).min(axis=1) >= 6
    assert whole.mean() > 0.9


@pytest.mark.quick
def test_masks_depend_on_the_record_and_the_epoch_alone():
    method = method_of()
    all_of, some = masks_of(method, np.arange(20)), masks_of(method, np.array([7, 3]))
    other = masks_of(method, np.array([7, 3]), epoch=1)
    for name in ("keep", "places", "counted"):
        np.testing.assert_array_equal(some[name], all_of[name][[7, 3]])
    assert (other["keep"] != some["keep"]).any(axis=1).all()


@pytest.mark.quick
def test_a_context_is_full_although_the_targets_cover_the_image():
    method = method_of(targets_per_image=3, target_scale=(1.0, 1.0), target_aspect=(1.0, 1.0))
    masks = masks_of(method, np.arange(5))
    assert masks["counted"].sum(axis=2).tolist() == [[64 - 16] * 3] * 5
    assert [len(set(keep)) for keep in masks["keep"].tolist()] == [16] * 5


def predictors(depth=2):
    """Ours and lightly's with the same weights, and inputs for 3 images, 4 blocks of 5 patches."""
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(3, 6, 8)).astype(np.float32)
    keep = rng.permuted(np.tile(np.arange(16), (3, 1)), axis=1)[:, :6]
    places = rng.permuted(np.tile(np.arange(16), (3, 4, 1)), axis=2)[..., :5]
    ours = Predictor(channels=16, depth=depth, heads=2, side=4, initializer="xavier")
    counted = np.ones(places.shape, bool)
    init = jax.jit(ours.init, compiler_options=FAST)
    params = init(jax.random.key(0), tokens, keep, places, counted)["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape), params)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
    theirs = predictor_module.IJEPAPredictorTIMM(16, depth, 8, 16, 2)
    load_predictor(theirs, params)
    return ours, params, theirs, (tokens, keep, places, counted)


def load_predictor(theirs, params):
    state = timm_blocks(params, "decoder.blocks")
    state["decoder.norm.weight"] = params["norm"]["scale"]
    state["decoder.norm.bias"] = params["norm"]["bias"]
    state["decoder.mask_token"] = params["mask_token"].reshape(1, 1, -1)
    state["decoder.pos_embed"] = theirs.decoder.pos_embed.data.numpy()
    for ours, name in (("embed", "predictor_embed"), ("pred", "predictor_proj")):
        state[f"{name}.weight"] = np.array(params[ours]["kernel"]).T
        state[f"{name}.bias"] = params[ours]["bias"]
    theirs.load_state_dict({key: torch.tensor(np.asarray(leaf)) for key, leaf in state.items()})


def test_the_predictor_and_its_gradients_are_lightlys():
    ours, params, theirs, (tokens, keep, places, counted) = predictors()
    weights = np.random.default_rng(1).normal(size=(3, 4, 5, 8)).astype(np.float32)

    def loss(params, tokens):
        predicted = ours.apply({"params": params}, tokens, keep, places, counted)
        return jnp.sum(predicted * weights), predicted

    compute = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True), compiler_options=FAST)
    (gradients, of_tokens), predicted = compute(params, tokens)
    x = torch.tensor(tokens, requires_grad=True)
    blocks = [torch.tensor(places[:, number]) for number in range(4)]
    found = theirs(x, [torch.tensor(keep)], blocks).reshape(4, 3, 5, 8).transpose(0, 1)
    np.testing.assert_allclose(predicted, found.detach(), atol=1e-5)
    torch.sum(found * torch.tensor(weights)).backward()
    np.testing.assert_allclose(of_tokens, x.grad, atol=2e-5, rtol=1e-5)
    expected = predictor_module.IJEPAPredictorTIMM(16, 2, 8, 16, 2)
    load_predictor(expected, jax.device_get(gradients))  # ours, at the places of their weights
    grads = dict(theirs.named_parameters())
    for name, gradient in expected.named_parameters():
        if name == "decoder.pos_embed":
            continue
        largest = grads[name].grad.abs().max()
        error = (gradient.detach() - grads[name].grad).abs().max()
        assert error < 1e-5 * max(largest, 1), name


def test_the_predictor_does_not_see_patches_that_do_not_count():
    ours, params, _, (tokens, keep, places, counted) = predictors()
    apply = jax.jit(lambda *inputs: ours.apply({"params": params}, tokens, keep, *inputs))
    counted[:, :, 3:] = False
    padded = apply(places, counted)[:, :, :3]
    np.testing.assert_allclose(
        padded, apply(places[..., :3], counted[..., :3]), rtol=1e-5, atol=1e-6
    )
    assert np.abs(padded - apply(places, np.ones_like(counted))[:, :, :3]).max() > 1e-3


@pytest.mark.quick
def test_loss_is_pytorchs_smooth_l1_loss_to_normalised_features():
    method = method_of()
    masks = masks_of(method, np.arange(6))
    rng = np.random.default_rng(0)
    features = 3 * rng.normal(size=(6, 64, 12)).astype(np.float32) + 1
    shape = (*masks["places"].shape, 12)
    predicted = (2 * rng.normal(size=shape)).astype(np.float32)  # errors on both sides of 1

    class Net:
        @staticmethod
        def tokens(images):
            return jnp.asarray(features)

    def losses(predicted):
        context = Context({}, masks, method.targets(Net, masks), {}, jnp.zeros(()), {})
        return method.loss(predicted, context)

    whole = torch.nn.functional.layer_norm(torch.tensor(features), (12,))
    theirs = torch.tensor(predicted, requires_grad=True)
    expected = []
    for image in range(6):
        pairs = [
            (theirs[image, block, place], whole[image, patch])
            for block, patches in enumerate(masks["places"][image])
            for place, patch in enumerate(patches)
            if masks["counted"][image, block, place]
        ]
        ours, wanted = (torch.stack(side) for side in zip(*pairs, strict=True))
        expected.append(torch.nn.SmoothL1Loss()(ours, wanted))
    torch.stack(expected).sum().backward()
    found = [each.item() for each in expected]
    np.testing.assert_allclose(losses(predicted), found, rtol=1e-5)
    gradient = jax.grad(lambda predicted: losses(predicted).sum())(predicted)
    np.testing.assert_allclose(gradient, theirs.grad, atol=1e-7)


class Student(torch.nn.Module):
    """timm's backbone and lightly's predictor, for one image at a time."""

    def __init__(self, params):
        super().__init__()
        self.vit = timm.VisionTransformer(
            img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0,
            class_token=False, global_pool="avg",
        )  # fmt: skip
        state = layouts.layout_of(TINY, 32).write({"backbone": params["backbone"]})
        self.vit.load_state_dict({key: torch.tensor(value) for key, value in state.items()})
        self.vit.pos_embed.requires_grad = False
        self.predictor = predictor_module.IJEPAPredictorTIMM(16, 1, 32, 16, 2)
        load_predictor(self.predictor, params["predictor"])
        self.double()

    def tokens(self, images, keep):
        x = (self.vit.patch_embed(images) + self.vit.pos_embed)[:, keep]
        return self.vit.fc_norm(self.vit.blocks(x))

    def loss(self, teacher, inputs, image):
        pixels = nchw(inputs["image"][image : image + 1]).double()
        keep = torch.tensor(inputs["keep"][image : image + 1]).long()
        context = self.tokens(pixels, keep[0])
        with torch.no_grad():
            wanted = teacher.tokens(pixels, torch.arange(16))
            wanted = torch.nn.functional.layer_norm(wanted, (32,))
        pairs = []
        for places, counted in zip(inputs["places"][image], inputs["counted"][image], strict=True):
            if counted.any():
                block = torch.tensor(places[counted])[None].long()
                pairs.append((self.predictor(context, [keep], [block]), wanted[:, block[0]]))
        ours, theirs = (torch.cat(side, dim=1) for side in zip(*pairs, strict=True))
        return torch.nn.SmoothL1Loss()(ours, theirs)


def test_ten_steps_are_those_of_a_plain_loop(data_dir):
    """PyTorch computes in float64, one image and one block after the other, without padding."""
    run = ten_steps.make_run("ijepa", data_dir, learning_rate=0.01)
    first, losses, last, seen, _ = ten_steps.take(run)
    sizes = np.concatenate([inputs["counted"].sum(axis=2).ravel() for inputs in seen])
    assert len(set(sizes)) > 1  # so that padding is tested
    student, teacher = Student(first.params), Student(first.params)
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.9, weight_decay=1e-3)
    for step, (inputs, ours) in enumerate(zip(seen, losses, strict=True)):
        loss = sum(student.loss(teacher, inputs, image) for image in range(16)) / 16
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        keep = 0.9 + 0.1 * step / (12 * run.config.epochs)
        with torch.no_grad():
            for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
                old.copy_(keep * old + (1 - keep) * new)
        assert ours == pytest.approx(loss.item(), rel=1e-5)
    before = dict(Student(first.params).named_parameters())
    for found, params in ((student, last.params), (teacher, last.teacher["params"])):
        expected = dict(found.named_parameters())
        for name, value in Student(params).named_parameters():
            if name.endswith("pos_embed"):
                continue
            error = torch.linalg.norm(value - expected[name])
            np.testing.assert_allclose(
                value.detach(), expected[name].detach(), atol=1e-5, err_msg=name
            )
            assert error < 1e-3 * torch.linalg.norm(expected[name] - before[name]), name


def test_bfloat16_and_float32_have_about_the_same_loss(data_dir):
    exact = ten_steps.take(ten_steps.make_run("ijepa", data_dir, 0.01)).losses
    rough = ten_steps.take(ten_steps.make_run("ijepa", data_dir, 0.01, dtype="bfloat16")).losses
    np.testing.assert_allclose(rough, exact, rtol=0.01)


@pytest.mark.quick
def test_the_teacher_slows_down_linearly():
    method = method_of()
    found = [method.teacher_momentum(jnp.asarray(progress)) for progress in (0, 0.25, 0.5, 1)]
    np.testing.assert_allclose(found, [0.996, 0.997, 0.998, 1], rtol=1e-6)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"views": "dino"}, "dino makes several views; the method takes one, as of `ijepa`"),
        ({"predictor_num_heads": 5}, "of method.predictor_num_heads=5, got 384"),
        ({"context_patches": 0.01}, "0.01 of the 64 patches of an image leaves none"),
        ({"target_scale": (0.2, 0.1)}, "target_scale must be two numbers > 0 and <= 1, the smalle"),
        ({"target_scale": (0.2, 1.1)}, r"got \(0.2, 1.1\)"),
        ({"target_aspect": (1.0,)}, "target_aspect must be two numbers"),
    ],
)
def test_options_that_do_not_fit_are_named(options, said):
    with pytest.raises(InputError, match=said):
        method_of(**options)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"class_token": True}, "model.class_token: ijepa needs model.class_token=false, got true"),
        (
            {"class_token": True, "pool": "token", "positions": "learned"},
            "needs model.class_token=false, model.pool=avg, model.positions=sincos, got true, to",
        ),
    ],
)
def test_a_backbone_of_another_form_is_refused(options, said, data_dir):
    config = tiny.get_config("ijepa")
    config.data.data_dir = data_dir
    config.model.update(options)
    with pytest.raises(InputError, match=said):
        open_run(resolve(config))


@pytest.mark.quick
def test_collapsed_features_are_said_to_be():
    method = method_of()
    masks = masks_of(method, np.arange(8))
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(*masks["places"].shape, 16)).astype(np.float32)

    def spread(targets):
        context = Context({"mask": jnp.ones(8, bool)}, masks, targets, {}, jnp.ones(()), {})
        return float(method.diagnostics(targets, context)["embedding_std"][0][0])

    assert not method.concerns({"embedding_std": spread(wanted)})
    (said,) = method.concerns({"embedding_std": spread(np.ones_like(wanted))})
    assert "the features have collapsed: embedding_std is 0.000" in said
