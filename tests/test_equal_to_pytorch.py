"""Against PyTorch and torchvision."""

from __future__ import annotations

import dataclasses
import pickle

import jax
import numpy as np
import optax
import pytest
import scipy.stats
from PIL import Image

from ssljax import load_run, train_config, weights
from ssljax.data.images import square
from ssljax.methods import make_method
from ssljax.methods.method import DataSpec
from ssljax.methods.parameter_groups import ParameterGroup
from ssljax.models.torch.description import IMAGENET, Description
from ssljax.models.torch.layouts import ALEXNET, read_file
from ssljax.runs.imported_weights import import_weights
from ssljax.settings.errors import InputError
from ssljax.training.optimizers import make_optimizer
from ssljax.training.schedules import cosine, step_decay, warmup
from tests import references
from tests.networks import Classifier

torch = references.load("torch")
torchvision = references.load("torchvision")
safetensors_torch = references.load("safetensors.torch")

pytestmark = pytest.mark.reference

RNG = np.random.default_rng(0)


def torch_alexnet(num_classes: int, width: float = 1.0):
    """torchvision's AlexNet at any width."""
    nn = torch.nn
    c = [round(width * channels) for channels in (64, 192, 384, 256, 256, 4096)]
    model = nn.Module()
    model.features = nn.Sequential(
        nn.Conv2d(3, c[0], 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(c[0], c[1], 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(c[1], c[2], 3, padding=1), nn.ReLU(),
        nn.Conv2d(c[2], c[3], 3, padding=1), nn.ReLU(),
        nn.Conv2d(c[3], c[4], 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip
    model.avgpool = nn.AdaptiveAvgPool2d((6, 6))
    model.classifier = nn.Sequential(
        nn.Dropout(), nn.Linear(c[4] * 36, c[5]), nn.ReLU(),
        nn.Dropout(), nn.Linear(c[5], c[5]), nn.ReLU(), nn.Linear(c[5], num_classes),
    )  # fmt: skip
    model.forward = lambda x: model.classifier(torch.flatten(model.avgpool(model.features(x)), 1))
    return model.eval()


@pytest.mark.parametrize(("size", "width"), [(108, 0.25), (224, 0.25), (227, 0.25), (227, 1.0)])
def test_logits_and_gradients(size, width):
    torch.manual_seed(0)
    theirs = torch_alexnet(7, width=width)
    state = {name: tensor.detach().numpy() for name, tensor in theirs.state_dict().items()}
    params = ALEXNET.read(state).params
    ours = Classifier(7, width=width)
    images = RNG.normal(size=(2, size, size, 3)).astype(np.float32)
    labels = np.array([3, 5])

    def loss(params):
        logits = ours(params, images)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), logits

    gradients, logits = jax.jit(jax.grad(loss, has_aux=True))(params)
    expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    torch.nn.functional.cross_entropy(expected, torch.from_numpy(labels)).backward()
    np.testing.assert_allclose(logits, expected.detach().numpy(), atol=1e-5)
    back = ALEXNET.write(gradients)
    for name, parameter in theirs.named_parameters():
        scale = float(parameter.grad.abs().max())
        np.testing.assert_allclose(
            back[name], parameter.grad.numpy(), atol=1e-4 * scale, err_msg=name
        )


@pytest.mark.parametrize("size", [224, 227])
def test_torchvisions_own_alexnet(size):
    theirs = torchvision.models.alexnet(weights=None, num_classes=7).eval()
    state = {name: tensor.detach().numpy() for name, tensor in theirs.state_dict().items()}
    params = ALEXNET.read(state).params
    ours = Classifier(7)
    images = RNG.normal(size=(2, size, size, 3)).astype(np.float32)
    expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2))).detach().numpy()
    np.testing.assert_allclose(ours(params, images), expected, atol=1e-5)
    back = {k: torch.from_numpy(v) for k, v in ALEXNET.write(params).items()}
    theirs.load_state_dict(back, strict=True)


def test_initial_weights_have_the_same_distribution():
    """A two-sample test for every layer's kernel and bias."""
    torch.manual_seed(0)
    theirs = torch_alexnet(100, width=0.25).state_dict()
    fresh = Classifier(100, width=0.25).init()
    for name, values in ALEXNET.write(fresh).items():
        result = scipy.stats.ks_2samp(values.ravel()[:100_000], theirs[name].ravel()[:100_000])
        assert result.pvalue > 1e-4, name
        scale = float(theirs[name].abs().max())
        assert np.abs(values).max() == pytest.approx(scale, rel=0.2), name


@pytest.mark.parametrize(("height", "width"), [(300, 200), (200, 300), (120, 120), (90, 80)])
def test_crop_resize_and_normalise(height, width):
    """PyTorch resizes in float; Pillow rounds to whole grey levels after each of two passes."""
    small = RNG.integers(0, 256, (height // 10, width // 10, 3), np.uint8)
    image = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    method = make_method({"name": "classification"}, DataSpec(108, num_classes=2))
    pixels = square(Image.fromarray(image), 108, None)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cropped = torch.from_numpy(image[top : top + side, left : left + side].transpose(2, 0, 1))
    resized = torch.nn.functional.interpolate(
        cropped[None].float(), (108, 108), mode="bilinear", antialias=True, align_corners=False
    )[0]
    expected = resized.numpy().transpose(1, 2, 0)
    assert np.abs(pixels - expected).max() <= 1.01
    assert np.abs(pixels - expected).mean() < 0.35
    normalised = method.inputs({"image": pixels[None]}, None, train=False)[0]
    reference = (torch.from_numpy(pixels / 255) - 0.5) / 0.5
    np.testing.assert_allclose(normalised, reference, atol=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-8), (np.float32, 1e-4)])
def test_adam_with_l2_and_step_decay(dtype, tolerance):
    """A least-squares problem: 200 steps over 8 epochs.

    In float32 the two may differ by 1e-4 of a parameter or loss: Adam divides the gradient by its
    own size, and its rounding with it.
    """
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(30, 5)).astype(dtype), rng.normal(size=(30, 2)).astype(dtype)
    start = rng.normal(size=(5, 2)).astype(dtype)
    weight = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = torch.optim.Adam([weight], lr=0.02, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.3)
    with jax.enable_x64(dtype is np.float64):
        config = train_config()
        config.optimizer.learning_rate, config.schedule.every_epochs = 0.02, 2
        ours = make_optimizer(config, steps_per_epoch=25)
        params = {"w": jax.numpy.asarray(start)}
        state = ours.init(params)

        @jax.jit
        def step(params, state):
            value, gradient = jax.value_and_grad(
                lambda params: jax.numpy.mean((inputs @ params["w"] - targets) ** 2)
            )(params)
            updates, state = ours.update(gradient, state, params)
            return optax.apply_updates(params, updates), state, value

        for index in range(200):
            optimizer.zero_grad()
            loss = ((torch.from_numpy(inputs) @ weight - torch.from_numpy(targets)) ** 2).mean()
            loss.backward()
            optimizer.step()
            params, state, value = step(params, state)
            assert float(value) == pytest.approx(loss.item(), rel=tolerance)
            if index % 25 == 24:
                scheduler.step()
        np.testing.assert_allclose(params["w"], weight.detach().numpy(), rtol=tolerance)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_groups_of_parameters(name):
    """Frozen ones, no decay for biases, another learning rate for a layer; PyTorch has groups."""
    rng = np.random.default_rng(0)
    start = {
        "backbone": {"w": rng.normal(size=(4, 4)), "b": rng.normal(size=4)},
        "head": {"w": rng.normal(size=(4, 2)), "b": rng.normal(size=2)},
        "frozen": {"w": rng.normal(size=(4, 4))},
    }
    inputs = rng.normal(size=(20, 4))
    tensors = {
        f"{part} {leaf}": torch.nn.Parameter(torch.from_numpy(value.copy()))
        for part, leaves in start.items()
        for leaf, value in leaves.items()
    }
    settings = {"lr": 0.05} if name == "adam" else {"lr": 0.05, "momentum": 0.9}
    optimizer = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[name](
        [
            {"params": [tensors["backbone w"]], "weight_decay": 0.1},
            {"params": [tensors["backbone b"]], "weight_decay": 0.0},
            {"params": [tensors["head w"]], "weight_decay": 0.05, "lr": 0.005},
            {"params": [tensors["head b"]], "weight_decay": 0.0, "lr": 0.005},
        ],
        **settings,
    )
    config = train_config()
    config.optimizer.name, config.optimizer.momentum = name, settings.get("momentum", 0.0)
    config.optimizer.learning_rate, config.optimizer.weight_decay = 0.05, 0.1
    config.optimizer.decay_biases_and_norms = False
    config.schedule.name = "constant"
    config.frozen_layers = "frozen"
    groups = (
        ParameterGroup("*", learning_rate=7.0),  # the later group takes the head from it
        ParameterGroup("backbone", learning_rate=lambda epochs: 1.0 + 0 * epochs),
        ParameterGroup("head", learning_rate=0.1, weight_decay=0.5),
    )

    def loss(params, x, power):
        hidden = x @ params["backbone"]["w"] @ params["frozen"]["w"] + params["backbone"]["b"]
        return power(hidden @ params["head"]["w"] + params["head"]["b"]).mean()

    with jax.enable_x64(True):
        ours = make_optimizer(config, steps_per_epoch=10, groups=groups)
        params = jax.tree.map(jax.numpy.asarray, start)
        state = ours.init(params)
        for _ in range(30):
            gradients = jax.grad(loss)(params, inputs, lambda y: y**4)
            updates, state = ours.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
            nested = {
                part: {leaf: tensors[f"{part} {leaf}"] for leaf in leaves}
                for part, leaves in start.items()
            }
            optimizer.zero_grad()
            loss(nested, torch.from_numpy(inputs), lambda y: y**4).backward()
            optimizer.step()
    for key, tensor in tensors.items():
        part, leaf = key.split()
        np.testing.assert_allclose(params[part][leaf], tensor.detach().numpy(), rtol=1e-8)
    np.testing.assert_array_equal(params["frozen"]["w"], start["frozen"]["w"])


def test_cosine_decay():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.02)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=0.001)
    with jax.enable_x64(True):
        ours = cosine(0.02, 0.001, total_steps=50)
        for step in range(51):
            assert float(ours(step)) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)
            optimizer.step()
            scheduler.step()


@pytest.mark.parametrize("warmup_steps", [2, 10, 37])
def test_linear_warmup_and_step_decay(warmup_steps):
    """Both are stepped once a step; a staircase of whole epochs is one of whole steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.02)
    scheduler = torch.optim.lr_scheduler.ChainedScheduler(
        [
            torch.optim.lr_scheduler.LinearLR(
                optimizer, start_factor=1 / warmup_steps, total_iters=warmup_steps - 1
            ),
            torch.optim.lr_scheduler.StepLR(optimizer, step_size=2 * 10, gamma=0.3),
        ]
    )
    ours = warmup(step_decay(0.02, 2, 0.3, steps_per_epoch=10), warmup_steps)
    for step in range(60):
        assert ours(step) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9), step
        optimizer.step()
        scheduler.step()


def test_a_file_of_weights_round_trips(tmp_path):
    theirs = torch_alexnet(11, width=0.125)
    for name, options in (("new.pth", {}), ("old.pth", {"_use_new_zipfile_serialization": False})):
        torch.save(theirs.state_dict(), tmp_path / name, **options)
        params = read_file(tmp_path / name).weights.params
        back = ALEXNET.write(params)
        for key, tensor in theirs.state_dict().items():
            np.testing.assert_array_equal(back[key], tensor.numpy())


@pytest.mark.parametrize("container", ["new", "old", "safetensors"])
def test_weights_go_through_a_run_folder_and_back(tmp_path, container):
    theirs = torch_alexnet(5, width=0.125)
    suffix = "safetensors" if container == "safetensors" else "pth"
    source = tmp_path / f"theirs.{suffix}"
    if container == "safetensors":
        safetensors_torch.save_file(theirs.state_dict(), source)
    else:
        torch.save(theirs.state_dict(), source, _use_new_zipfile_serialization=container == "new")
    names = ("a", "b", "c", "d", "e")
    given = IMAGENET.updated(Description(class_names=names))
    import_weights(source, tmp_path / "run", given)
    model = load_run(tmp_path / "run")
    images = [RNG.integers(0, 256, (224, 224, 3), np.uint8) for _ in range(3)]
    normalised = (np.stack(images) / 255 - IMAGENET.mean) / IMAGENET.std
    expected = theirs(torch.from_numpy(normalised.transpose(0, 3, 1, 2)).float())
    np.testing.assert_allclose(model.outputs(images), expected.detach().numpy(), atol=1e-5)
    assert {name for name, _ in model.classify(images)[0]} == set(names)

    file = tmp_path / f"ours.{suffix}"
    weights.export_weights(tmp_path / "run", file, "best")
    other = torch_alexnet(5, width=0.125)
    if suffix == "pth":
        state = torch.load(file, weights_only=True)
    else:
        state = safetensors_torch.load_file(file)
    other.load_state_dict(state, strict=True)
    torch.testing.assert_close(
        other(torch.from_numpy(normalised.transpose(0, 3, 1, 2)).float()), expected, rtol=0, atol=0
    )
    fewer = dataclasses.replace(given, class_names=names[:4])
    for function, arguments, said in (
        (weights.export_weights, (tmp_path / "run", file, "best"), "exists already"),
        (weights.export_weights, (tmp_path / "run", tmp_path / "x.onnx", ""), "must end in .pth"),
        (weights.export_weights, (tmp_path / "run", tmp_path / "no/x.pth", ""), "cannot write"),
        (import_weights, (source, tmp_path / "run", given), "exists already"),
        (import_weights, (source, tmp_path / "new", fewer),
         "there are 4 names, but .* has 5 outputs"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            function(*arguments)
    assert not (tmp_path / "new").exists()


def test_tensors_that_do_not_fit_each_other_are_listed(tmp_path):
    state = torch_alexnet(3, width=0.0625).state_dict()
    state["features.3.weight"] = state["features.3.weight"][:, :2]
    state["classifier.4.bias"] = torch.zeros(9)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(InputError) as error:
        import_weights(tmp_path / "odd.pth", tmp_path / "run", IMAGENET)
    assert "features.3 has kernel (5, 5, 2, 12), expected (5, 5, 4, 12)" in str(error.value)
    assert "classifier.4 has bias (9,), expected (256,)" in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    for name, write in (
        ("zip.pth", lambda path: torch.save({"features.0.weight": Evil()}, path)),
        ("raw.pth", lambda path: path.write_bytes(pickle.dumps(Evil()))),
    ):
        write(tmp_path / name)
        with pytest.raises(InputError, match=f"{name} cannot be read"):
            read_file(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_files_of_other_content_are_refused(tmp_path):
    state = torch_alexnet(3, width=0.0625).state_dict()
    del state["classifier.6.bias"]
    state["features.0.weight"] = state["features.0.weight"][0]
    state["head.weight"] = torch.zeros(2)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(InputError) as error:
        read_file(tmp_path / "other.pth")
    for said in ("missing classifier.6.bias", "extra head.weight", "features.0.weight has shape"):
        assert said in str(error.value)
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    for name in ("list.pth", "text.pth", "text.safetensors", "none.pth", "w.onnx"):
        with pytest.raises(InputError, match=name):
            read_file(tmp_path / name)
