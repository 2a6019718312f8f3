"""Checkpoints with the names that authors of methods publish, against torchvision and timm."""

from __future__ import annotations

import argparse
import functools
import itertools

import jax
import numpy as np
import pytest

from ssljax import load_run, train_config, weights
from ssljax.evaluate import evaluate
from ssljax.models import make_network, model_defaults, positions
from ssljax.models.heads import Linear
from ssljax.models.network import Network, variables
from ssljax.models.torch import layouts
from ssljax.models.torch.description import IMAGENET, Description
from ssljax.runs import transfer
from ssljax.runs.imported_weights import import_weights
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from tests import references
from tests.test_backbones_equal_to_torchvision import FAST, nchw, numpy_state, torchs

torch = references.load("torch")
timm = references.load("timm.models.vision_transformer")
pytestmark = pytest.mark.reference
nn = torch.nn
PARTS = {"student": 0, "teacher": 1}


def vit(seed=0, patch=8, size=16, channels=32, **options):
    """timm's, without a head."""
    torch.manual_seed(seed)
    model = timm.VisionTransformer(
        img_size=size, patch_size=patch, embed_dim=channels, depth=2, num_heads=2, num_classes=0,
        **options,
    )  # fmt: skip
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model.eval()


def resnet(seed=0, name="resnet18"):
    """torchvision's, without a head; no two have the same weights and statistics."""
    model = torchs(name, width=1 / 16)
    torch.manual_seed(seed)
    with torch.no_grad():
        for value in (*model.parameters(), *model.buffers()):
            if value.is_floating_point():
                value += 0.05 * torch.randn(value.shape)
    model.fc = nn.Identity()
    return model.eval()


def features(found, images):
    config = {**model_defaults(found.model["name"]), **found.model, "dtype": "float32"}
    if "heads" in config:
        config["heads"] = 2
    network = make_network(config, {"head": functools.partial(Linear, features=2)})

    def compute(params, stats, images):
        return network.apply(variables(params, stats), images, method=Network.backbone)

    return jax.jit(compute, compiler_options=FAST)(*found.weights, images)


def assert_features_are(found, model, size=16):
    images = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = model(nchw(images)).numpy()
    np.testing.assert_allclose(features(found, images), expected, rtol=1e-5, atol=1e-5)


def mlp(*sizes):
    """As moco/builder.py of MoCo v3 makes it."""
    layers = []
    for inputs, units in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, units, bias=False), nn.BatchNorm1d(units), nn.ReLU()]
    layers[-2] = nn.BatchNorm1d(sizes[-1], affine=False)
    return nn.Sequential(*layers[:-1])


def dino_head():
    """The state dict of DINO's `DINOHead`; its last layer has weight normalisation."""
    layers = nn.ModuleDict({"mlp": nn.Sequential(nn.Linear(32, 8), nn.GELU(), nn.Linear(8, 4))})
    last = {"last_layer.weight_g": torch.ones(6, 1), "last_layer.weight_v": torch.ones(6, 4)}
    return {**layers.state_dict(), **last}


def with_head(encoder, name, head):
    """The encoder with a head where torchvision or timm have theirs."""
    state = {f"{name}.{key}": value for key, value in head.state_dict().items()}
    return {**encoder.state_dict(), **state}


def joined(**networks):
    """Their state dicts, with names in front."""
    return {
        f"{name}.{key}": value for name, state in networks.items() for key, value in state.items()
    }


def moco(make, name, head):
    """A state dict as of MoCo v1 and v2, in a DistributedDataParallel."""
    networks = {part: with_head(make(seed), name, head) for part, seed in
                zip(("encoder_q", "encoder_k"), PARTS.values(), strict=True)}  # fmt: skip
    queue = {"queue": torch.randn(4, 6), "queue_ptr": torch.zeros(1, dtype=torch.long)}
    return joined(module={**joined(**networks), **queue})


def moco_v3(make, name, sizes):
    encoders = [with_head(make(seed), name, mlp(*sizes)) for seed in PARTS.values()]
    predictor = mlp(4, 8, 4).state_dict()
    return joined(
        module=joined(base_encoder=encoders[0], momentum_encoder=encoders[1], predictor=predictor)
    )


def sincos_of_moco_v3(side, channels):
    """Its `build_2d_sincos_position_embedding`."""
    steps = torch.arange(side, dtype=torch.float32)
    grid_w, grid_h = torch.meshgrid(steps, steps, indexing="ij")
    omega = 1.0 / 10000 ** (torch.arange(channels // 4, dtype=torch.float32) / (channels // 4))
    out_w, out_h = (torch.einsum("m,d->md", grid.flatten(), omega) for grid in (grid_w, grid_h))
    waves = [out_w.sin(), out_w.cos(), out_h.sin(), out_h.cos()]
    return torch.cat([torch.zeros(1, channels), torch.cat(waves, dim=1)])[None]


def vit_of_moco_v3(seed=0):
    model = vit(seed)
    model.pos_embed.data = sincos_of_moco_v3(2, 32)
    return model


def saved(folder, checkpoint, name="w.pth.tar"):
    torch.save(checkpoint, folder / name)
    return folder / name


def start(path, model="vit_tiny", part="student", **options):
    """What `init_from` loads."""
    config = train_config("classification", model)
    config.model.update(options)
    config.init_from, config.init_part = str(path), part
    return transfer.load_source(config)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("title", "head"),
    [("MoCo v1", nn.Linear(32, 4)),
     ("MoCo v2", nn.Sequential(nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 4)))],
)  # fmt: skip
def test_mocos_resnets(tmp_path, title, head, part):
    whole = {"epoch": 200, "arch": "resnet18", "state_dict": moco(resnet, "fc", head)}
    found = layouts.read_file(saved(tmp_path, whole), part)
    other = {"student": "encoder_k", "teacher": "encoder_q"}[part]
    assert found.title == f"{title}, {'encoder_q' if part == 'student' else 'encoder_k'}"
    assert set(found.weights.params) == {"backbone"}
    first = "fc.weight, fc.bias" if title == "MoCo v1" else "fc.0.weight, fc.0.bias"
    for said in (f"{first}", "(head)", "queue, queue_ptr (queue)", f"{other}.conv1.weight, "):
        assert said in found.left_out
    assert_features_are(found, resnet(PARTS[part]), size=32)


def test_resnet_50_of_moco_v3_and_of_dino():
    make = functools.partial(resnet, name="resnet50")
    plain = layouts.recognise(numpy_state(make(1)))
    state = moco_v3(make, "fc", (128, 8, 4))
    dino = joined(teacher=joined(backbone=make(1).state_dict(), head=dino_head()))
    for tensors, title in ((state, "MoCo v3, momentum_encoder"), (dino, "DINO, teacher")):
        arrays = {name.removeprefix("module."): value.numpy() for name, value in tensors.items()}
        found = layouts.recognise(arrays, part="teacher")
        assert (found.title, found.model) == (title, plain.model)
        assert found.model["name"] == "resnet50"
        jax.tree.map(np.testing.assert_array_equal, found.weights, plain.weights)


@pytest.mark.parametrize("part", PARTS)
def test_moco_v3s_vits(tmp_path, part):
    state = moco_v3(vit_of_moco_v3, "head", (32, 8, 8, 4))
    found = layouts.read_file(saved(tmp_path, {"state_dict": state}), part)
    assert found.title == f"MoCo v3, {'base' if part == 'student' else 'momentum'}_encoder"
    assert "head.0.weight, head.1.weight, … (head)" in found.left_out
    assert "predictor.0.weight, predictor.1.weight, … (predictor)" in found.left_out
    assert found.model["positions"] == "learned"  # in another order than MAE's
    assert_features_are(found, vit_of_moco_v3(PARTS[part]))


@pytest.mark.parametrize("part", PARTS)
def test_dinos_checkpoints(tmp_path, part):
    """With what its program saves besides: arguments, and numbers of NumPy in the optimiser."""
    networks = {
        each: joined(backbone=vit(seed).state_dict(), head=dino_head())
        for each, seed in PARTS.items()
    }
    whole = {
        "student": joined(module=networks["student"]), "teacher": networks["teacher"], "epoch": 801,
        "args": argparse.Namespace(arch="vit_small", lr=0.1), "fp16_scaler": {"scale": 2.0},
        "optimizer": {"param_groups": [{"lr": np.float64(0.5), "params": [0]}], "state": {}},
        "dino_loss": {"center": torch.zeros(1, 6)},
    }  # fmt: skip
    found = layouts.read_file(saved(tmp_path, whole, "w.pth"), part)
    assert found.title == f"DINO, {part}"
    assert "head.mlp.0.weight, head.mlp.0.bias, … (head)" in found.left_out
    assert_features_are(found, vit(PARTS[part]))


def test_backbones_without_a_wrapper():
    """Those that DINO and MAE publish have timm's names."""
    found = layouts.recognise(numpy_state(vit()))
    assert (found.title, found.left_out, found.heads) == ("", "", 0)
    state = joined(backbone=vit().state_dict(), head=dino_head())
    found = layouts.recognise({name: value.numpy() for name, value in state.items()})
    assert found.title == "DINO"
    assert_features_are(found, vit())


def test_maes_encoder_is_taken_and_its_decoder_is_not(tmp_path):
    encoder = vit()
    encoder.pos_embed.data = torch.from_numpy(positions.sincos(2, 2, 32, 1))
    decoder = vit(1, channels=16)
    state = {
        **encoder.state_dict(), "mask_token": torch.zeros(1, 1, 16),
        **{f"decoder_{name}": value for name, value in decoder.state_dict().items()
           if name.startswith(("blocks", "norm", "pos_embed"))},
        "decoder_embed.weight": torch.zeros(16, 32), "decoder_embed.bias": torch.zeros(16),
        "decoder_pred.weight": torch.zeros(192, 16), "decoder_pred.bias": torch.zeros(192),
    }  # fmt: skip
    path = saved(tmp_path, {"model": state}, "w.pth")
    found = layouts.read_file(path)
    assert (found.title, found.model["positions"]) == ("MAE", "sincos")
    assert found.left_out == (
        "mask_token (mask token), decoder_pos_embed, decoder_blocks.0.norm1.weight, … (decoder)"
    )
    assert_features_are(found, encoder)
    source = start(path, width=1 / 6)
    params = jax.tree.map(jax.numpy.asarray, source.params)
    _, _, report = transfer.transfer(params, {}, source, "backbone")
    said = transfer.describe(report)
    assert said[0] == f"initial weights from {path} (MAE):"
    assert f"  left out {found.left_out}" in said


def test_maes_fine_tuned_vits_keep_their_classes(tmp_path):
    theirs = vit(global_pool="avg")
    theirs.head = nn.Linear(32, 3)
    path = saved(tmp_path, {"model": theirs.state_dict(), "epoch": 99}, "w.pth")
    given = IMAGENET.updated(Description(image_size=16, heads=2))
    import_weights(path, tmp_path / "run", given)
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    normalised = ((image / 255 - IMAGENET.mean) / IMAGENET.std).astype(np.float32)[None]
    expected = theirs(nchw(normalised)).detach()
    np.testing.assert_allclose(load_run(tmp_path / "run").outputs([image]), expected, atol=1e-5)


@pytest.mark.parametrize("layout", ["backbone", "chunks", "training"])
def test_dinov2s_layer_scale_is_folded_into_the_layers_before_it(layout):
    model = vit(patch=14, size=28, init_values=1.0)
    state = {**model.state_dict(), "mask_token": torch.zeros(1, 32)}
    if layout != "backbone":
        state = {name.replace("blocks.0.", "blocks.0.0.").replace("blocks.1.", "blocks.1.1."): value
                 for name, value in state.items()}  # fmt: skip
    if layout == "training":
        heads = {"dino_head": dino_head(), "ibot_head": dino_head()}
        state = joined(student=joined(backbone=state, **heads), teacher=joined(backbone=state))
        state["dino_loss.center"] = torch.zeros(1, 6)
    arrays = {name: value.numpy() for name, value in state.items()}
    found = layouts.recognise(arrays)
    assert found.title == ("DINOv2, student" if layout == "training" else "DINOv2")
    assert "mask_token (mask token)" in found.left_out
    assert (found.model["patch"], found.model["depth"]) == (14, 2)
    assert_features_are(found, model, size=28)
    del arrays[next(name for name in arrays if name.endswith("1.mlp.fc2.bias"))]
    with pytest.raises(InputError) as error:
        layouts.recognise(arrays)
    for said in (r"(DINOv2", "missing blocks.1.mlp.fc2.bias", "extra blocks.1.ls2.gamma"):
        assert said in str(error.value)


def test_a_file_without_a_head_becomes_a_run_that_computes_features(tmp_path, capsys):
    """With images of another size than in training, as DINOv2's 518 px are seldom used."""
    model = vit(patch=14, size=42, init_values=1.0, dynamic_img_size=True)
    teacher = joined(backbone=model.state_dict(), dino_head=dino_head())
    path = saved(tmp_path, {"teacher": teacher}, "w.pth")
    given = IMAGENET.updated(Description(image_size=28, heads=2))
    with pytest.raises(InputError, match="has no student; use init_part=teacher"):
        import_weights(path, tmp_path / "run", given)
    import_weights(path, tmp_path / "run", given, "teacher")
    said = capsys.readouterr().err
    assert f"{path} is a checkpoint of DINOv2, teacher\nleft out: dino_head.mlp.0.weight" in said
    assert "positions are interpolated" in said
    image = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    normalised = ((image / 255 - IMAGENET.mean) / IMAGENET.std).astype(np.float32)[None]
    with torch.no_grad():
        expected = model(nchw(normalised)).numpy()
    run = load_run(tmp_path / "run")
    np.testing.assert_allclose(run.features([image]), expected, rtol=1e-4, atol=1e-4)
    weights.export_weights(tmp_path / "run", tmp_path / "folder")
    weights.export_weights(tmp_path / "run", tmp_path / "w.safetensors")
    for name in ("folder", "w.safetensors"):
        import_weights(tmp_path / name, tmp_path / f"from {name}")
        again = load_run(tmp_path / f"from {name}").features([image])
        np.testing.assert_array_equal(again, run.features([image]))
    named = given.updated(Description(class_names=("a",)))
    with pytest.raises(InputError, match="--class_names: the network of .* names no classes"):
        import_weights(path, tmp_path / "new", named, "teacher")
    source = start(tmp_path / "run", width=1 / 6, heads=2)
    assert set(source.params) == {"backbone"}


def test_features_cannot_be_evaluated_or_trained(make_config, tmp_path):
    import_weights(saved(tmp_path, vit().state_dict()), tmp_path / "run",
                           IMAGENET.updated(Description(image_size=16, heads=2)))  # fmt: skip
    config = load_run(tmp_path / "run").run.config
    said = "imported weights without a head have no loss"
    tiny = make_config("classification").data
    with pytest.raises(InputError, match=said):
        evaluate(tmp_path / "run", tiny.test_split, dataset=tiny.dataset)
    config.data.update(tiny)
    config.data.image_size = 16
    with pytest.raises(InputError, match=said):
        train(config, tmp_path / "trained")


@pytest.mark.parametrize(
    ("name", "said"),
    [("register_tokens", r"w has register tokens \(register_tokens\), which are not supported"),
     ("blocks.0.mlp.w12.weight", r"w has SwiGLU layers \(blocks.0.mlp.w12.weight\), which are not"),
     ("patch_embed.proj.0.weight", "extra patch_embed.proj.0.weight"),  # a convolutional stem
     ("blocks.7.0.norm1.weight", "has blocks.0.norm1.weight in two chunks of blocks")],
)  # fmt: skip
def test_what_a_plain_transformer_cannot_compute_is_refused(name, said):
    with pytest.raises(InputError, match=said):
        layouts.recognise({**numpy_state(vit()), name: np.zeros((1, 4, 32))}, "w")


@pytest.mark.parametrize(
    ("channels", "titles"),
    [(384, {"MoCo v3": 12, "DINO": 6, "DINOv2": 6}), (1280, {"MAE": 16}), (32, {"MoCo v3": 0})],
)
def test_the_heads_are_those_of_the_method(tmp_path, channels, titles):
    state = numpy_state(vit(patch=4, size=4, channels=channels))
    layouts_ = {
        "MoCo v3": joined(base_encoder=state),
        "DINO": joined(student=joined(backbone=state)),
        "DINOv2": {**state, "blocks.0.ls1.gamma": np.ones(channels, np.float32)},
        "MAE": {**state, "decoder_norm.weight": np.zeros(1, np.float32)},
    }
    for title, heads in titles.items():
        found = layouts.recognise(layouts_[title])
        assert found.title.partition(",")[0] == title
        assert found.heads == heads
    if channels == 384:
        tensors = {name: torch.from_numpy(value) for name, value in layouts_["MoCo v3"].items()}
        path = saved(tmp_path, tensors)
        assert start(path, "vit_small", heads=12).params
        with pytest.raises(InputError, match="model.heads: the attention of .*12 heads; use model"):
            start(path, "vit_small")


def test_a_part_that_is_not_there_is_an_error():
    state = numpy_state(vit())
    for tensors, part, said in (
        (state, "teacher", "init_part: w holds one network, not a student and a teacher; use"),
        (joined(teacher=state), "student",
         r"init_part: w \(DINO\) has no student; use init_part=teacher"),
        (joined(base_encoder=state), "teacher",
         r"init_part: w \(MoCo v3\) has no teacher; use init_part=student"),
        (state, "pupil", "init_part must be student or teacher, got 'pupil'"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            layouts.recognise(tensors, "w", part)


def test_unknown_and_missing_tensors_are_named():
    arrays = {name.removeprefix("module."): value.numpy()
              for name, value in moco(vit, "fc", nn.Linear(32, 4)).items()}  # fmt: skip
    extra = np.zeros(3, np.float32)
    arrays |= {"projector.weight": extra, "encoder_q.neck.weight": extra}
    del arrays["encoder_q.norm.bias"]
    with pytest.raises(InputError) as error:
        layouts.recognise(arrays, "w.pth")
    for said in (
        "w.pth (MoCo v1, encoder_q) is not timm's vision transformer: missing norm.bias;",
        "extra projector.weight", "extra neck.weight",
    ):  # fmt: skip
        assert said in str(error.value)
    with pytest.raises(InputError, match=r"has cls_token twice, once within encoder_q.cls_token"):
        layouts.recognise({"cls_token": extra, **arrays})
