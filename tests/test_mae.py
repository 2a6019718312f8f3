"""MAE: masks, the loss against the authors' formula, and whole steps against lightly's modules."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.methods import make_method
from ssljax.methods.method import Context, DataSpec
from ssljax.models.decoder import MaskedDecoder
from ssljax.models.torch import layouts
from ssljax.report.live_page import LivePage
from ssljax.runs.config import resolve
from ssljax.runs.run import open_run
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from ssljax.views.keys import record_keys
from tests import references, ten_steps, tiny
from tests.networks import timm_blocks
from tests.test_backbones_equal_to_torchvision import FAST, nchw

torch = references.load("torch")
timm = references.load("timm.models.vision_transformer")
utils = references.load("lightly.models.utils")
encoder_module = references.load("lightly.models.modules.masked_vision_transformer_timm")
decoder_module = references.load("lightly.models.modules.masked_vision_transformer_decoder_timm")
pytestmark = pytest.mark.reference
SIDE, PATCH = 32, 8


def method_of(**options):
    return make_method({"name": "mae", **options}, DataSpec(SIDE, patch=options.pop("patch", 4)))


def inputs_of(method, records, epoch=0, train=True):
    rng = np.random.default_rng(0)
    batch = {
        "image": jnp.asarray(rng.integers(0, 256, (len(records), SIDE, SIDE, 3)), jnp.uint8),
        "height": jnp.full(len(records), SIDE),
        "width": jnp.full(len(records), SIDE),
        "record": jnp.asarray(records),
    }
    keys = record_keys(0, epoch, batch["record"])
    return method.inputs(batch, keys, train)


def test_masks_are_each_images_own_and_equally_likely_everywhere():
    method = method_of()
    assert (method.patches, method.kept) == (64, 16)
    order = np.asarray(inputs_of(method, np.arange(2000), train=False)["order"])
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(64), (2000, 1)))
    kept = np.zeros((2000, 64))
    np.put_along_axis(kept, order[:, :16], 1, axis=1)
    assert len(np.unique(kept, axis=0)) == 2000
    error = np.sqrt(0.25 * 0.75 / 2000)
    np.testing.assert_allclose(kept.mean(axis=0), 0.25, atol=4 * error)
    both = kept.T @ kept / 2000  # pairs of patches
    expected = 16 / 64 * 15 / 63
    np.testing.assert_allclose(both[~np.eye(64, dtype=bool)], expected, atol=5 * error)
    again = np.asarray(inputs_of(method, np.array([7, 3]), train=False)["order"])
    np.testing.assert_array_equal(again, order[[7, 3]])
    other = np.asarray(inputs_of(method, np.array([7, 3]), epoch=1, train=False)["order"])
    assert (other != again).any(axis=1).all()


def test_places_invert_the_order():
    method = method_of()
    order = inputs_of(method, np.arange(5), train=False)["order"]
    places = method._places(order)
    np.testing.assert_array_equal(
        jnp.take_along_axis(order, places, axis=1), np.tile(np.arange(64), (5, 1))
    )


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_loss_and_gradient_are_those_of_the_authors_formula(norm_pix_loss):
    method = method_of(norm_pix_loss=norm_pix_loss)
    inputs = inputs_of(method, np.arange(4), train=False)
    inputs["image"] = inputs["image"].at[0, :8].set(0.3)  # patches without variance
    predicted = np.random.default_rng(1).normal(size=(4, 64, 48)).astype(np.float32)

    def losses(predicted):
        return method.loss(predicted, Context({}, inputs, None, {}, jnp.zeros(()), {}))

    images, order = nchw(np.asarray(inputs["image"])), np.asarray(inputs["order"])
    theirs = torch.tensor(predicted, requires_grad=True)
    target = utils.patchify(images, 4)
    if norm_pix_loss:
        target = utils.normalize_mean_var(target)
    mask = torch.ones(4, 64)
    mask[np.arange(4)[:, None], order[:, :16]] = 0
    per_patch = ((theirs - target) ** 2).mean(dim=-1)
    loss = (per_patch * mask).sum() / mask.sum()
    loss.backward()
    gradient = jax.grad(lambda predicted: losses(predicted).mean())(predicted)
    np.testing.assert_allclose(losses(predicted).mean(), loss.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, theirs.grad, atol=1e-7, rtol=1e-4)


class Autoencoder(torch.nn.Module):
    """lightly's modules as its example for MAE puts them together."""

    def __init__(self):
        super().__init__()
        vit = timm.VisionTransformer(
            img_size=SIDE, patch_size=PATCH, embed_dim=32, depth=2, num_heads=2, num_classes=0
        )
        self.encoder = encoder_module.MaskedVisionTransformerTIMM(
            vit, pos_embed_initialization="skip"
        )
        self.encoder.mask_token.requires_grad = False  # it has no use here
        self.embed = torch.nn.Linear(32, 16)
        self.decoder = decoder_module.MaskedVisionTransformerDecoderTIMM(
            num_patches=16, embed_dim=16, depth=1, num_heads=2
        )
        self.pred = torch.nn.Linear(16, 3 * PATCH**2)

    def forward(self, images, order):
        kept = order.shape[1] // 4
        prefix = torch.zeros((len(images), 1), dtype=torch.long)
        keep = torch.cat([prefix, order[:, :kept] + 1], dim=1)
        masked = order[:, kept:] + 1
        x = self.embed(self.encoder.encode(images, idx_keep=keep))
        whole = utils.repeat_token(self.decoder.mask_token, (len(images), 17))
        whole = utils.set_at_index(whole, keep, x.type_as(whole))
        predicted = self.pred(utils.get_at_index(self.decoder(whole), masked))
        target = utils.get_at_index(utils.patchify(images, PATCH), masked - 1)
        target = utils.normalize_mean_var(target)
        return torch.nn.functional.mse_loss(predicted, target)

    def load(self, params):
        """Takes our weights."""
        backbone = layouts.layout_of(TINY).write({"backbone": params["backbone"]})
        self.encoder.vit.load_state_dict({key: torch.tensor(v) for key, v in backbone.items()})
        given = params["decoder"]
        head = {key: torch.tensor(v) for key, v in timm_blocks(given, "blocks").items()}
        head["norm.weight"] = torch.tensor(given["norm"]["scale"])
        head["norm.bias"] = torch.tensor(given["norm"]["bias"])
        head["mask_token"] = torch.tensor(given["mask_token"])
        head["pos_embed"] = self.decoder.pos_embed.data
        self.decoder.load_state_dict(head)
        with torch.no_grad():
            for name in ("embed", "pred"):
                module = getattr(self, name)
                module.weight.copy_(torch.tensor(np.array(given[name]["kernel"]).T))
                module.bias.copy_(torch.tensor(given[name]["bias"]))
        return self.double()


TINY = tiny.get_config("mae").model.to_dict()


def test_ten_steps_are_those_of_lightlys_modules(data_dir):
    """PyTorch computes in float64."""
    run = ten_steps.make_run("mae", data_dir, learning_rate=0.01)
    assert run.config.model.positions == "learned"  # so that they are trained, too
    first, losses, last, seen, _ = ten_steps.take(run)
    theirs = Autoencoder().load(first.params)
    trained = [parameter for parameter in theirs.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.9, weight_decay=1e-3)
    for inputs, ours in zip(seen, losses, strict=True):
        loss = theirs(nchw(inputs["image"]).double(), torch.tensor(inputs["order"]).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert ours == pytest.approx(loss.item(), rel=1e-5)
    expected, before = (dict(each.named_parameters()) for each in (
        theirs, Autoencoder().load(first.params)
    ))  # fmt: skip
    for name, value in Autoencoder().load(last.params).named_parameters():
        if not expected[name].requires_grad:
            continue
        np.testing.assert_allclose(value.detach(), expected[name].detach(), atol=1e-5, err_msg=name)
        change = torch.linalg.norm(expected[name] - before[name])
        assert torch.linalg.norm(value - expected[name]) < 1e-3 * change, name


def test_bfloat16_and_float32_have_about_the_same_loss(data_dir):
    exact = ten_steps.take(ten_steps.make_run("mae", data_dir, 0.01)).losses
    rough = ten_steps.take(ten_steps.make_run("mae", data_dir, 0.01, dtype="bfloat16")).losses
    np.testing.assert_allclose(rough, exact, rtol=0.01)


def test_the_decoder_sees_kept_tokens_at_their_places():
    decoder = MaskedDecoder(channels=16, depth=1, heads=2, kept=2, outputs=3)
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(1, 3, 8)).astype(np.float32)
    order = np.array([[2, 0, 3, 1]])
    places = jnp.argsort(order, axis=1)
    init = jax.jit(decoder.init, compiler_options=FAST)
    params = init(jax.random.key(0), tokens, places)
    one = decoder.apply(params, tokens, places)
    swapped = decoder.apply(
        params, tokens[:, [0, 2, 1]], jnp.argsort(order[:, [1, 0, 2, 3]], axis=1)
    )
    np.testing.assert_allclose(swapped, one, atol=1e-6)
    other = decoder.apply(params, tokens, jnp.argsort(order[:, [1, 0, 2, 3]], axis=1))
    assert np.abs(other - one).max() > 1e-3


def test_reconstructions_have_the_visible_patches_and_the_truths_if_predicted():
    method = method_of()
    inputs = inputs_of(method, np.arange(3), train=False)
    perfect = method.filled_in(method.wanted(inputs["image"]), inputs)
    np.testing.assert_allclose(perfect, inputs["image"], atol=1e-5)
    visible, filled = method.visible(inputs), method.filled_in(jnp.zeros((3, 64, 48)), inputs)
    whole = (np.asarray(visible) == np.asarray(inputs["image"])).all(axis=-1)
    assert whole.mean() == 0.25
    np.testing.assert_array_equal(filled[whole], visible[whole])
    first = int(inputs["order"][0, -1])  # a masked patch gets its mean
    row, column = first // 8 * 4, first % 8 * 4
    patch = inputs["image"][0, row : row + 4, column : column + 4]
    np.testing.assert_allclose(filled[0, row, column], patch.mean().repeat(3), atol=1e-5)


def test_the_page_of_a_finished_run_shows_reconstructions(data_dir, tmp_path):
    config = tiny.get_config("mae")
    config.data.data_dir, config.epochs = data_dir, 1
    train(config, tmp_path / "run", after_validation=LivePage().validated)
    page = (tmp_path / "run/report.html").read_text()
    assert "<h2>Reconstructions</h2>" in page
    assert page.count("filled in</") == 6


@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"views": "simclr"}, "simclr makes several views; the method takes one, as of `mae`"),
        ({"decoder_num_heads": 5}, "multiple of 4, .* and of method.decoder_num_heads=5, got 512"),
        ({"mask_ratio": 0.99}, "0.99 of the 64 patches of an image leaves 0"),
        ({"mask_ratio": 1.0}, "method.mask_ratio must be < 1"),
    ],
)
def test_options_that_do_not_fit_are_named(options, said):
    with pytest.raises(InputError, match=said):
        method_of(**options)


@pytest.mark.quick
@pytest.mark.parametrize("model", ["alexnet", "resnet18"])
def test_a_backbone_without_tokens_is_refused(model, data_dir):
    config = tiny.get_config("mae")
    config.data.data_dir = data_dir
    config.model = {"name": model}
    said = f"computes tokens of patches, which {model} does not; use one of vit_tiny, vit_small"
    with pytest.raises(InputError, match=said):
        open_run(resolve(config))
