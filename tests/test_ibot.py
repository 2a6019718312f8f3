"""iBOT: masks, the loss and its centres against lightly's, and whole steps against a plain loop."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.methods import make_method, method_defaults
from ssljax.methods.method import Context, DataSpec
from ssljax.models.torch import layouts
from ssljax.runs.config import resolve
from ssljax.runs.run import open_run
from ssljax.settings.errors import InputError
from ssljax.views.block_masks import block_mask
from ssljax.views.keys import record_keys
from tests import references, ten_steps, tiny
from tests.test_backbones_equal_to_torchvision import nchw

torch = references.load("torch")
lightly = references.load("lightly.loss")
utils = references.load("lightly.models.utils")
timm = references.load("timm.models.vision_transformer")
masked_vit = references.load("lightly.models.modules.masked_vision_transformer_timm")
pytestmark = pytest.mark.reference
B, K, SIDE = 4, 7, 32


def method_of(**options):
    return make_method({**method_defaults("ibot"), **options}, DataSpec(SIDE, patch=4))


def masks_of(method, records, epoch=0):
    batch = {
        "image": jnp.zeros((len(records), SIDE, SIDE, 3), jnp.uint8),
        "height": jnp.full(len(records), SIDE),
        "width": jnp.full(len(records), SIDE),
        "record": jnp.asarray(records),
    }
    keys = record_keys(0, epoch, batch["record"])
    return np.asarray(jax.jit(lambda: method.inputs(batch, keys, True)["masked"])())


@pytest.mark.parametrize(("side", "ratio"), [(14, 0.25), (14, 0.5), (8, 0.25)])
def test_block_masks_are_distributed_as_lightlys(side, ratio):
    """Lightly's are made one after the other, with the constants of iBOT's code."""
    count = 1500
    keys = jax.random.split(jax.random.key(0), count)
    ours = jax.jit(jax.vmap(lambda key: block_mask(key, ratio, side)))(keys)
    ours = np.asarray(ours).reshape(count, side, side)
    utils.random.seed(0)
    least = (side // 3) ** 2
    theirs = np.stack([
        utils.random_block_mask_image((side, side), int(ratio * side**2), least).numpy()
        for _ in range(count)
    ])  # fmt: skip
    assert ours.sum(axis=(1, 2)).max() == ratio * side**2
    for measured in (
        lambda masks: masks.sum(axis=(1, 2)),
        lambda masks: (masks[:, 1:] & masks[:, :-1]).sum(axis=(1, 2)),  # neighbours
        lambda masks: masks.any(axis=1).sum(axis=1),  # columns
        lambda masks: masks.any(axis=2).sum(axis=1),  # rows
    ):
        one, other = measured(ours), measured(theirs)
        error = np.sqrt((one.var() + other.var()) / count)
        assert abs(one.mean() - other.mean()) < 4 * error + 1e-9
    apart = ours.mean(axis=0) - theirs.mean(axis=0)
    assert np.abs(apart).max() < 4.5 * np.sqrt(2 * 0.25 / count)


def test_some_views_have_masked_patches_and_a_records_are_its_own():
    method = method_of(views="ibot_small", mask_probability=0.4)
    masks = masks_of(method, np.arange(400))
    assert masks.shape == (400, 2, 64)
    shares = masks.mean(axis=2).reshape(-1)
    assert abs((shares > 0).mean() - 0.4) < 4 * np.sqrt(0.4 * 0.6 / 800)
    masked = shares[shares > 0]
    assert masked.max() <= 0.5
    assert abs(masked.mean() - 0.3) < 0.03
    assert masked.std() == pytest.approx(0.4 / np.sqrt(12), rel=0.15)  # uniform from 0.1 to 0.5
    both = masks[(masks.any(axis=2)).all(axis=1)]
    assert (both[:, 0] != both[:, 1]).any(axis=1).all()
    np.testing.assert_array_equal(masks_of(method, np.array([7, 3])), masks[[7, 3]])
    assert (masks_of(method, np.arange(400), epoch=1) != masks).any()


def mean_loss(outputs, method, context):
    return method.loss(outputs, context).mean()


def test_the_loss_and_the_centres_are_lightlys_over_three_steps():
    """lightly's patch loss follows the masked patches' scores; the authors' follows all."""
    method = method_of(
        prototypes=K, teacher_temperature=0.07, temperature_warmup=0.5, views="ibot_small"
    )
    rng = np.random.default_rng(0)
    classes, patches = lightly.DINOLoss(K), lightly.IBOTPatchLoss(K)
    memory, patch_centre = method.first_memory(), np.zeros(K)
    for progress in (0.0, 0.25, 1.0):
        outputs, targets = (
            {
                "scores": rng.normal(size=(B, views, K)).astype(np.float32),
                "patch_scores": rng.normal(size=(B, 2, 64, K)).astype(np.float32),
            }
            for views in (5, 2)
        )
        masked = rng.random((B, 2, 64)) < 0.3
        masked[0, 0] = masked[1] = False
        temperature = 0.04 + 0.03 * min(1, progress / 0.5)
        theirs = {name: torch.tensor(x, requires_grad=True) for name, x in outputs.items()}
        expected = classes(
            list(torch.tensor(targets["scores"]).unbind(1)),
            list(theirs["scores"].unbind(1)),
            temperature,
        )
        for view in (0, 1):
            patches.center.center = torch.tensor(patch_centre, dtype=torch.float32)[None]
            mask = torch.tensor(masked[:, view])
            expected = expected + 0.5 * patches(
                torch.tensor(targets["patch_scores"])[:, view][mask],
                theirs["patch_scores"][:, view][mask],
                mask.reshape(B, 8, 8),
                temperature,
            )
        expected.backward()
        batch = {"mask": np.ones(B, bool)}
        context = Context(batch, {"masked": masked}, targets, memory, progress, None)
        value, ours = jax.value_and_grad(mean_loss)(outputs, method, context)
        assert float(value) == pytest.approx(expected.item(), rel=1e-5)
        for name, tensor in theirs.items():
            np.testing.assert_allclose(ours[name], tensor.grad, rtol=1e-4, atol=1e-6, err_msg=name)
        memory = method.remember(outputs, context)
        np.testing.assert_allclose(memory["centre"], classes.center.squeeze(), rtol=1e-5)
        patch_centre = 0.9 * patch_centre + 0.1 * targets["patch_scores"].mean(axis=(0, 1, 2))
        np.testing.assert_allclose(memory["patch_centre"], patch_centre, rtol=1e-4, atol=1e-7)


class Network(torch.nn.Module):
    """lightly's masked vision transformer, and the authors' head with learned lengths."""

    def __init__(self, params):
        super().__init__()
        vit = timm.VisionTransformer(
            img_size=SIDE, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0
        )
        self.encoder = masked_vit.MaskedVisionTransformerTIMM(vit, pos_embed_initialization="skip")
        mlp = [torch.nn.Linear(32, 16), torch.nn.GELU(), torch.nn.Linear(16, 16), torch.nn.GELU()]
        self.projector = torch.nn.Sequential(*mlp, torch.nn.Linear(16, 8))
        self.last, self.patch_last = (
            torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(8, 12, bias=False))
            for _ in range(2)
        )
        backbone = layouts.layout_of(MODEL).write({"backbone": params["backbone"]})
        vit.load_state_dict({name: torch.tensor(value) for name, value in backbone.items()})
        with torch.no_grad():
            self.encoder.mask_token.copy_(torch.tensor(params["mask_token"]["token"]))
            for number, layer in enumerate(self.projector[::2], start=1):
                given = params["projector"][f"dense{number}"]
                layer.weight.copy_(torch.tensor(np.array(given["kernel"]).T))
                layer.bias.copy_(torch.tensor(given["bias"]))
            for name, layer in (("prototypes", self.last), ("patch_prototypes", self.patch_last)):
                original = layer.parametrizations.weight
                original.original0.copy_(torch.tensor(np.array(params[name]["lengths"]).T))
                original.original1.copy_(torch.tensor(np.array(params[name]["kernel"]).T))
        self.double()

    def forward(self, images, masked=None):
        """Scores of the class token [B, K] and of the patches [B, N, K]."""
        if masked is not None:  # lightly counts the class token, too
            masked = torch.cat([torch.zeros((len(images), 1), dtype=torch.bool), masked], dim=1)
        tokens = self.encoder.encode(images, mask=masked)
        embeddings = torch.nn.functional.normalize(self.projector(tokens), dim=-1)
        return self.last(embeddings[:, 0]), self.patch_last(embeddings[:, 1:])


MODEL = tiny.get_config("ibot").model.to_dict()


def cross_entropy(teacher, centre, temperature, student):
    wanted = torch.softmax((teacher - centre) / temperature, dim=-1)
    return -(wanted * torch.log_softmax(student / 0.1, dim=-1)).sum(dim=-1)


def test_ten_steps_are_those_of_a_plain_loop(data_dir):
    """PyTorch computes in float64."""
    run = ten_steps.make_run(
        "ibot", data_dir, learning_rate=0.01, freeze_prototypes=0.0, momentum=0.9,
        temperature_warmup=0.0, teacher_patch_temperature=0.15,
    )  # fmt: skip
    first, losses, last, seen, _ = ten_steps.take(run)
    student, teacher = Network(first.params), Network(first.params)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
    centre, patch_centre = torch.zeros(12).double(), torch.zeros(12).double()
    total = 12 * run.config.epochs
    for step, (inputs, ours) in enumerate(zip(seen, losses, strict=True)):
        views = [nchw(inputs["global"][:, view]).double() for view in (0, 1)]
        masks = [torch.tensor(inputs["masked"][:, view]) for view in (0, 1)]
        with torch.no_grad():
            targets = [teacher(view) for view in views]
        found = [student(view, mask) for view, mask in zip(views, masks, strict=True)]
        loss = 0
        for view in (0, 1):
            other = found[1 - view][0]
            loss = loss + cross_entropy(targets[view][0], centre, 0.1, other).mean() / 2
            patches = cross_entropy(targets[view][1], patch_centre, 0.15, found[view][1])
            count = masks[view].sum(dim=1).clamp(min=1)
            loss = loss + ((patches * masks[view]).sum(dim=1) / count).mean() / 2
        assert ours == pytest.approx(loss.item(), rel=1e-4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scores, patch_scores = (torch.stack(each) for each in zip(*targets, strict=True))
        centre = 0.5 * centre + 0.5 * scores.mean(dim=(0, 1))
        patch_centre = 0.5 * patch_centre + 0.5 * patch_scores.mean(dim=(0, 1, 2))
        keep = 1 - 0.1 * (np.cos(np.pi * step / total) + 1) / 2
        with torch.no_grad():
            for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
                old.mul_(keep).add_((1 - keep) * new)
    assert any(inputs["masked"].any() for inputs in seen)
    np.testing.assert_allclose(last.memory["centre"], centre, atol=1e-5)
    np.testing.assert_allclose(last.memory["patch_centre"], patch_centre, atol=1e-5)
    before = dict(Network(first.params).named_parameters())
    for params, expected in ((last.params, student), (last.teacher["params"], teacher)):
        wanted = dict(expected.named_parameters())
        for name, value in Network(params).named_parameters():
            np.testing.assert_allclose(
                value.detach(), wanted[name].detach(), atol=1e-5, err_msg=name
            )
            change = torch.linalg.norm(wanted[name] - before[name])
            assert torch.linalg.norm(value - wanted[name]) < 1e-3 * change, name


@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mask_ratio_var": 0.4}, "mask_ratio_var must be <= 0.3, .* got 0.4"),
        ({"mask_ratio": 0.9}, "mask_ratio_var must be <= 0.1, .*method.mask_ratio=0.9 .* got 0.2"),
        ({"views": "mae"}, "mae does not have two views"),
    ],
)
def test_options_that_do_not_fit_are_named(options, said):
    with pytest.raises(InputError, match=said):
        method_of(**options)
    assert method_of(mask_ratio=0.8, mask_ratio_var=0.2)  # the limit


@pytest.mark.quick
def test_a_backbone_without_a_class_token_is_refused(data_dir):
    config = tiny.get_config("ibot")
    config.data.data_dir = data_dir
    config.model.class_token, config.model.pool = False, "avg"
    run = open_run(resolve(config))
    with pytest.raises(InputError, match="model.class_token must be true"):
        run.variable_shapes()
