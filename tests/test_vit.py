"""Vision transformers against timm's, and their positions, kept patches and dropped paths."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax import load_run, train_config, weights
from ssljax.models import check_model, make_network, model_defaults, positions
from ssljax.models.backbone import keep_blocks_only
from ssljax.models.heads import Linear
from ssljax.models.network import Network, variables
from ssljax.models.torch import layouts, vit
from ssljax.models.torch.description import IMAGENET
from ssljax.runs import transfer
from ssljax.runs.imported_weights import import_weights
from ssljax.runs.run import make_run
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from ssljax.training.optimizers import make_optimizer
from tests import references
from tests.networks import outputs
from tests.test_backbones_equal_to_torchvision import FAST, nchw, numpy_state

torch = references.load("torch")
timm = references.load("timm.models.vision_transformer")
pytestmark = pytest.mark.reference
CLASSES, SIZE = 5, 32
NARROW = {"width": 1 / 6, "heads": 2, "depth": 3, "patch": 8}
PARTS = ("backbone", "head")


def config_of(**options):
    return {**model_defaults("vit_tiny"), **NARROW, "dtype": "float32", **options}


def network_of(trained=(), **options):
    config = config_of(**options)
    check_model(config)
    heads = {"head": functools.partial(Linear, features=CLASSES)}
    return make_network(config, heads, batch_statistics=trained)


def timms(image_size=SIZE, **options):
    torch.manual_seed(0)
    model = timm.VisionTransformer(
        img_size=image_size, patch_size=8, embed_dim=32, depth=3, num_heads=2,
        num_classes=CLASSES, **options,
    )  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def images_of(count=4, size=SIZE, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size, size, 3)).astype(np.float32)


@functools.cache
def created(**options):
    init = functools.partial(network_of(**options).init, method=outputs)
    return jax.jit(init, compiler_options=FAST)(jax.random.key(0), images_of(1))["params"]


@pytest.mark.parametrize(
    "options",
    [{}, {"pool": "avg"}, {"pool": "avg", "class_token": False}],
    ids=["token", "avg", "no class token"],
)
def test_logits_and_gradients_are_timms(options):
    given = {"global_pool" if key == "pool" else key: value for key, value in options.items()}
    theirs = timms(**given)
    found = layouts.recognise(numpy_state(theirs))
    assert {**config_of(), **found.model} == {**config_of(), **options}
    network, images = network_of(**options), images_of()
    labels = np.arange(4)

    def loss(params, images):
        logits = network.apply(variables(params, {}), images, method=outputs)
        return -jax.nn.log_softmax(logits)[np.arange(4), labels].mean(), logits

    gradients, logits = jax.jit(jax.grad(loss, has_aux=True), compiler_options=FAST)(
        found.weights.params, images
    )
    expected = theirs(nchw(images))
    torch.nn.functional.cross_entropy(expected, torch.from_numpy(labels)).backward()
    np.testing.assert_allclose(logits, expected.detach(), atol=1e-5)
    written = found.layout.write(gradients)
    assert set(written) == set(theirs.state_dict())
    for name, parameter in theirs.named_parameters():
        np.testing.assert_allclose(written[name], parameter.grad, atol=1e-5, err_msg=name)


def test_layers_are_timms_blocks_and_smaller_views_have_interpolated_positions():
    theirs, network = timms(dynamic_img_size=True), network_of()
    params = layouts.recognise(numpy_state(theirs)).weights.params
    layers = network.apply(variables(params, {}), images_of(), method=Network.layers)
    assert list(layers) == ["block1", "block2", "block3", "pool"]
    with torch.no_grad():
        blocks = theirs.forward_intermediates(nchw(images_of()), intermediates_only=True)
        for size in (16, 40):
            small = images_of(size=size)
            ours = network.apply(variables(params, {}), small, method=outputs)
            np.testing.assert_allclose(ours, theirs(nchw(small)), atol=1e-5)
    for number, block in enumerate(blocks, start=1):
        np.testing.assert_allclose(
            layers[f"block{number}"], block.permute(0, 2, 3, 1), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("class_token", [True, False])
def test_attention_is_timms(class_token):
    pool = {"global_pool": "token" if class_token else "avg", "class_token": class_token}
    theirs = timms(**pool)
    network = network_of(class_token=class_token, pool=pool["global_pool"])
    last, found = theirs.blocks[-1].attn, []
    last.fused_attn = False
    last.attn_drop.register_forward_hook(lambda module, given, output: found.append(output))
    theirs(nchw(images_of()))
    expected = found[0].detach().mean(axis=1)
    expected = expected[:, 0, 1:] if class_token else expected.mean(axis=1)
    params = layouts.recognise(numpy_state(theirs)).weights.params
    ours = network.apply(variables(params, {}), images_of(), method="attention")
    np.testing.assert_allclose(ours, expected.reshape(4, 4, 4), atol=1e-6)


def test_tokens_are_lightlys():
    masked_vit = references.load("lightly.models.modules.masked_vision_transformer_timm")
    theirs, network = timms(), network_of()
    params = layouts.recognise(numpy_state(theirs)).weights.params
    token = np.random.default_rng(1).normal(size=32).astype(np.float32)
    wrapped = masked_vit.MaskedVisionTransformerTIMM(
        theirs, torch.nn.Parameter(torch.tensor(token)[None, None]), "skip",
        pos_embed_initialization="skip",
    )  # fmt: skip
    rng = np.random.default_rng(2)
    keep = np.stack([rng.permutation(16)[:5] for _ in range(4)])
    masked = rng.random((4, 16)) < 0.4

    def tokens(*arguments):
        return network.apply(variables(params, {}), images_of(), *arguments, method=Network.tokens)

    with torch.no_grad():
        # lightly counts the class token, too.
        kept = np.concatenate([np.zeros((4, 1), int), keep + 1], axis=1)
        expected = wrapped.encode(nchw(images_of()), idx_keep=torch.tensor(kept))
        np.testing.assert_allclose(tokens(keep), expected, atol=1e-5)
        places = torch.tensor(np.concatenate([np.zeros((4, 1), bool), masked], axis=1))
        expected = wrapped.encode(nchw(images_of()), mask=places)
        np.testing.assert_allclose(tokens(None, masked, token), expected, atol=1e-5)
        np.testing.assert_allclose(tokens(), theirs.forward_features(nchw(images_of())), atol=1e-5)
    views = images_of().reshape(2, 2, SIZE, SIZE, 3)
    together = network.apply(
        variables(params, {}), views, keep.reshape(2, 2, 5), method=Network.tokens
    )
    np.testing.assert_allclose(together.reshape(4, 6, 32), tokens(keep), atol=1e-6)


def test_fixed_positions_are_lightlys_and_not_trained():
    utils = references.load("lightly.models.utils")
    table = torch.nn.Parameter(torch.zeros(1, 50, 32))
    utils.initialize_2d_sine_cosine_positional_embedding(table, num_prefix_tokens=1)
    np.testing.assert_allclose(positions.sincos(7, 7, 32, 1), table.detach(), atol=1e-6)
    params = created(positions="sincos")
    assert set(params["backbone"]) == {"blocks", "cls_token", "norm", "patch_embed"}
    written = layouts.layout_of(config_of(positions="sincos"), SIZE).write(params)
    np.testing.assert_array_equal(written["pos_embed"], positions.sincos(4, 4, 32, 1))
    found = layouts.recognise(written)
    assert found.model["positions"] == "sincos"
    jax.tree.map(np.testing.assert_array_equal, found.weights.params, params)


@pytest.mark.parametrize("side", [3, 6, 7, 14])
def test_positions_are_interpolated_as_timm_does(side):
    layers = references.load("timm.layers.pos_embed")
    table = np.random.default_rng(0).normal(size=(1, 50, 8)).astype(np.float32)
    expected = layers.resample_abs_pos_embed(torch.tensor(table), [side, side])
    np.testing.assert_allclose(positions.resample(table, side, side, 1), expected, atol=1e-5)


def test_a_transfer_to_another_image_size_interpolates_positions():
    params, size = created(), 48
    shapes = {"backbone": {"pos_embed": np.zeros((1, 37, 32), np.float32)}}
    found = {"backbone": {"pos_embed": params["backbone"]["pos_embed"]}}
    new = jax.tree.map(jnp.asarray, shapes)
    got, _, report = transfer.transfer(new, {}, transfer.Source(found, {}, "there"), "backbone")
    expected = positions.resample(found["backbone"]["pos_embed"], 6, 6, 1)
    np.testing.assert_array_equal(got["backbone"]["pos_embed"], expected)
    assert report["loaded"] == ["backbone/pos_embed"]
    none = transfer.Source({"backbone": {"norm": np.zeros(3)}}, {}, "there")
    other = {"backbone": {"norm": jnp.ones(3), **new["backbone"]}}
    got, _, _ = transfer.transfer(other, {}, none, "backbone")  # the source's were fixed
    np.testing.assert_array_equal(
        got["backbone"]["pos_embed"], positions.sincos(size // 8, size // 8, 32, 1)
    )
    for shape in ((1, 17, 16), (1, 16, 32), (17, 32)):
        with pytest.raises(InputError, match=r"pos_embed is .* in the source"):
            transfer.choose(new, {"backbone": {"pos_embed": np.zeros(shape)}}, "backbone")


def test_dropped_paths_depend_on_the_records_keys_alone():
    options = {"drop_path": 0.4}
    network, params = network_of(PARTS, **options), created()
    keys = jax.random.split(jax.random.key(1), 8)
    images = np.repeat(images_of(1), 8, axis=0)

    def features(keys, images):
        return network.apply(variables(params, {}, keys), images, method=Network.backbone)

    every = features(keys, images)
    np.testing.assert_allclose(features(keys[5:], images[5:]), every[5:], atol=1e-6)
    plain = network_of().apply(variables(params, {}), images[:1], method=Network.backbone)
    np.testing.assert_allclose(
        network.apply(variables(params, {}), images[:1], method=Network.backbone), plain
    )
    assert len(np.unique(np.round(np.asarray(every[:, 0]), 4))) > 4


@pytest.mark.parametrize("other", ["proj", "fc2"])
def test_paths_that_are_kept_are_made_larger(other):
    """Of two blocks the last one drops; one of its two paths adds nothing."""
    network = network_of(PARTS, depth=2, drop_path=0.4)
    params = {"backbone": dict(created()["backbone"])}
    stacks = jax.tree.map(lambda leaf: np.array(leaf[:2]), params["backbone"]["blocks"])
    stacks[other]["kernel"][1], stacks[other]["bias"][1] = 0, 0
    params["backbone"]["blocks"] = stacks
    images = np.repeat(images_of(1), 1000, axis=0)

    def outputs_of(keys):
        def layers(net, x):
            return net._backbone.layers(x, net._view_keys((), 0))

        given = variables(params, {}, keys)
        found = network.apply(given, images if keys is not None else images[:1], method=layers)
        return found["block1"][:, 0, 0], found["block2"][:, 0, 0]

    before, whole = outputs_of(None)
    first, drawn = jax.jit(outputs_of)(jax.random.split(jax.random.key(2), 1000))
    np.testing.assert_allclose(first, np.repeat(before, 1000, axis=0), atol=1e-5)
    kept = np.abs(drawn - before).max(axis=1) > 1e-3
    np.testing.assert_allclose(drawn[~kept], first[~kept], atol=1e-5)
    np.testing.assert_allclose((drawn - before)[kept] * 0.6, first[kept] * 0 + whole - before,
                               atol=1e-5)  # fmt: skip
    assert kept.mean() == pytest.approx(0.6, abs=0.06)


def test_recomputation_and_bfloat16_compute_the_same():
    images = images_of()
    params = created()

    network = network_of()

    def loss(params):
        return (network.apply(variables(params, {}), images, method=outputs) ** 2).mean()

    plain = jax.jit(jax.grad(loss), compiler_options=FAST)(params)
    again = jax.jit(jax.grad(jax.checkpoint(loss, policy=keep_blocks_only())))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5), again, plain)
    rough = network_of(dtype="bfloat16")
    exact = network.apply(variables(params, {}), images, method=outputs)
    logits = rough.apply(variables(params, {}), images, method=outputs)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, exact, atol=0.05)


def test_new_weights_have_their_published_spread():
    backbone = created()["backbone"]
    for name, inputs, units in (("qkv", 32, 96), ("proj", 32, 32), ("fc1", 32, 128)):
        kernel = np.asarray(backbone["blocks"][name]["kernel"])
        limit = np.sqrt(6 / (inputs + units))
        assert 0.95 * limit < np.abs(kernel).max() <= limit
        assert not np.array_equal(kernel[0], kernel[1])
    patches = np.asarray(backbone["patch_embed"]["kernel"])
    assert 0.95 < np.abs(patches).max() / np.sqrt(6 / (192 + 32)) <= 1
    normal = created(initializer="normal")["backbone"]["blocks"]["fc1"]["kernel"]
    assert np.std(normal) == pytest.approx(0.02, rel=0.05)


def test_weight_decay_and_lars_treat_stacked_layers_as_single_ones():
    """Against the same optimiser on the layers one by one."""
    config = train_config("classification", "vit_tiny")
    config.optimizer.name, config.optimizer.learning_rate = "lars", 1.0
    config.optimizer.weight_decay, config.optimizer.decay_biases_and_norms = 0.5, False
    optimizer = make_optimizer(config, steps_per_epoch=10)
    rng = np.random.default_rng(0)
    stacked = [
        {"backbone": {"blocks": {"fc1": {"kernel": rng.normal(size=(3, 4, 5)),
                                         "bias": rng.normal(size=(3, 5))}}}}
        for _ in range(2)
    ]  # fmt: skip
    stacked = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), stacked)

    def step(gradients, params):
        return optimizer.update(gradients, optimizer.init(params), params)[0]

    together = step(*stacked)["backbone"]["blocks"]
    for layer in range(3):
        one = jax.tree.map(lambda leaf, layer=layer: leaf[layer], stacked)
        single = [{"backbone": {"layer": tree["backbone"]["blocks"]}} for tree in one]
        jax.tree.map(
            lambda many, alone, layer=layer: np.testing.assert_allclose(
                many[layer], alone, rtol=1e-5
            ),
            together, step(*single)["backbone"]["layer"],
        )  # fmt: skip


def test_a_frozen_projection_of_patches_stays_also_with_weight_decay(make_config, tmp_path):
    config = make_config("classification").copy_and_resolve_references().unlock()
    config.model = config_of(freeze_patch_embed=True)
    config.init_layers = "backbone"
    config.epochs, config.optimizer.name, config.optimizer.weight_decay = 1, "adamw", 0.1
    train(config, tmp_path / "run")
    params = load_run(tmp_path / "run").params["backbone"]
    run = make_run(config, tuple("abcdefghij"))
    first = run.initial_variables()[0]["backbone"]
    jax.tree.map(np.testing.assert_array_equal, params["patch_embed"], first["patch_embed"])
    assert not np.array_equal(params["norm"]["scale"], first["norm"]["scale"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"heads": 3}, r"model.heads: 3 heads do not divide the 32 channels"),
        ({"pool": "avg", "class_token": False, "width": 10 / 192, "positions": "sincos"},
         "sincos needs a multiple of 4 channels, but there are 10"),
        ({"class_token": False}, "model.pool must be 'avg' if model.class_token is false"),
        ({"patch": 3}, "model.patch must be >= 4, got 3"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_named(options, said):
    with pytest.raises(InputError, match=said):
        check_model(config_of(**options))


def test_images_of_other_than_whole_patches_are_refused(make_config):
    config = make_config("classification").copy_and_resolve_references().unlock()
    config.model, config.data.image_size = config_of(), 36
    with pytest.raises(InputError, match="images of 36 px .*=32 or .*=40, or"):
        make_run(config, ("a", "b"))
    config = make_config("dino").copy_and_resolve_references().unlock()
    config.model, config.data.image_size = config_of(), 64
    with pytest.raises(InputError, match="local views of 27 px, .* of 8 px .*=56 or "):
        make_run(config, ())


@pytest.mark.parametrize("name", vit.NAMES)
def test_parameters_are_timms(name):
    config = {**model_defaults(name), "dtype": "float32"}
    network = make_network(config, {"head": functools.partial(Linear, features=CLASSES)})
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32)
    shapes = jax.eval_shape(
        lambda images: network.init(jax.random.key(0), images, method=outputs), images
    )["params"]
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)
    with torch.device("meta"):
        theirs = getattr(timm, f"{name}_patch16_224")(num_classes=CLASSES)
    ours = layouts.layout_of(config).write(zeros)
    assert {key: value.shape for key, value in ours.items()} == {
        key: tuple(value.shape) for key, value in theirs.state_dict().items()
    }
    assert theirs.blocks[0].attn.num_heads == config["heads"]
    assert layouts.recognise({**ours, "pos_embed": ours["pos_embed"] + 1}).model == {
        key: config[key]
        for key in ("name", "patch", "width", "depth", "class_token", "pool", "positions")
    }


def test_a_vit_goes_through_a_run_folder_and_back(tmp_path):
    theirs = timms().eval()
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "theirs.pth")
    given = dataclasses.replace(IMAGENET, image_size=SIZE)
    with pytest.raises(InputError, match="model.heads: 3 heads do not divide the 32 channels"):
        import_weights(tmp_path / "theirs.pth", tmp_path / "run", given)
    given = dataclasses.replace(given, heads=2)
    import_weights(tmp_path / "theirs.pth", tmp_path / "run", given)
    images = [np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)] * 2
    normalised = ((np.stack(images) / 255 - IMAGENET.mean) / IMAGENET.std).astype(np.float32)
    expected = theirs(nchw(normalised)).detach()
    logits = load_run(tmp_path / "run").outputs(images)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    weights.export_weights(tmp_path / "run", tmp_path / "ours.safetensors")
    import_weights(tmp_path / "ours.safetensors", tmp_path / "again")  # it knows the heads
    np.testing.assert_array_equal(load_run(tmp_path / "again").outputs(images), logits)
    safetensors = references.load("safetensors.torch")
    other = timms().eval()
    other.load_state_dict(safetensors.load_file(tmp_path / "ours.safetensors"), strict=True)
    torch.testing.assert_close(other(nchw(normalised)).detach(), expected, rtol=0, atol=0)


def test_what_is_not_such_a_transformer_is_listed():
    state = numpy_state(timms())
    del state["blocks.1.attn.qkv.bias"]
    state["blocks.2.attn.q_norm.weight"] = np.ones(32, np.float32)
    state["blocks.2.mlp.fc1.bias"] = state["blocks.2.mlp.fc1.bias"][:5]
    with pytest.raises(InputError) as error:
        layouts.recognise(state)
    assert "missing blocks.1.attn.qkv.bias" in str(error.value)
    assert "is not timm's vision transformer: " in str(error.value)
    assert "extra blocks.2.attn.q_norm.weight" in str(error.value)
    state = numpy_state(timms())
    state["blocks.2.mlp.fc1.bias"] = state["blocks.2.mlp.fc1.bias"][:5]
    said = r"blocks.2.mlp.fc1.bias has another shape than blocks.0.mlp.fc1.bias"
    with pytest.raises(InputError, match=said):
        layouts.recognise(state)
