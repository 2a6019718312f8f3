"""ResNets, and AlexNet with batch normalisation, against torchvision's networks."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from ssljax import load_run, weights
from ssljax.models import MODELS, make_network, model_defaults, resnet
from ssljax.models.backbone import keep_blocks_only
from ssljax.models.batch_norm import COLLECTION
from ssljax.models.collectives import AXIS
from ssljax.models.heads import Linear
from ssljax.models.network import variables
from ssljax.models.torch import layouts, state_dict_files
from ssljax.models.torch.description import IMAGENET
from ssljax.runs.imported_weights import import_weights
from ssljax.runs.transfer import load_source
from ssljax.settings.errors import InputError
from tests import references
from tests.networks import outputs

torch = references.load("torch")
torchvision = references.load("torchvision")
pytestmark = pytest.mark.reference


class ResNet14(resnet.ResNet):
    """A shallow one with bottlenecks, which compiles fast."""

    blocks = (1, 1, 1, 1)
    bottleneck = True


LAYOUTS = {
    "resnet10": layouts.RESNETS["resnet10"],
    "resnet14": layouts.resnet(ResNet14, 14),
    "alexnet": layouts.ALEXNET_BN,
}
FAST = {"xla_backend_optimization_level": 0}  # to compile
CLASSES, BATCH, RATE = 5, 8, 0.005


@pytest.fixture(scope="module", autouse=True)
def shallow_resnet():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "resnet14", ResNet14)
        yield


class Net:
    """A backbone with a linear head."""

    def __init__(self, name: str, **options):
        self.config = {**model_defaults(name), "dtype": "float32", **options}
        heads = {"head": functools.partial(Linear, features=CLASSES)}
        parts = ("backbone", "head")
        self.training = make_network(self.config, heads, batch_statistics=parts)
        self.network = make_network(self.config, heads)

    def init(self, size: int = 64):
        images = jnp.zeros((1, size, size, 3))
        return self.network.init(jax.random.key(0), images, method=outputs)

    def __call__(self, params, stats, images):
        return self.network.apply(variables(params, stats), images, method=outputs)

    def loss(self, params, stats, images, labels):
        """The sum of the losses, over the number of images on all devices."""
        logits, changed = self.training.apply(
            variables(params, stats), images, method=outputs, mutable=[COLLECTION]
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.sum() / BATCH, (logits, changed[COLLECTION])

    def step(self, devices: int):
        """A step of plain SGD on some devices: `(params, stats), images, labels -> …`."""

        def step(state, images, labels):
            (_, (logits, stats)), gradients = jax.value_and_grad(self.loss, has_aux=True)(
                *state, images, labels
            )
            gradients = jax.lax.psum(gradients, AXIS)
            params = jax.tree.map(lambda p, g: p - RATE * g, state[0], gradients)
            return logits, gradients, (params, stats)

        return jax.jit(on_devices(step, devices), compiler_options=FAST)


def on_devices(step, devices: int):
    """Divides the second and the third of a step's arguments, and its first result."""
    mesh = jax.make_mesh(
        (devices,), (AXIS,), (AxisType.Auto,), devices=jax.devices()[:devices]
    )  # fmt: skip
    return jax.shard_map(
        step, mesh=mesh, in_specs=(P(), P(AXIS), P(AXIS)), out_specs=(P(AXIS), P(), P()),
        check_vma=False,
    )  # fmt: skip


def torchs(name: str, width: float = 1.0, stem: str = "imagenet", batch_norm: bool = False):
    """torchvision's network; its layers are replaced with narrower ones."""
    torch.manual_seed(0)
    with torch.device("cpu" if width == 1 else "meta"):
        if name in ("resnet10", "resnet14"):
            blocks = torchvision.models.resnet
            block = blocks.BasicBlock if name == "resnet10" else blocks.Bottleneck
            model = blocks.ResNet(block, [1, 1, 1, 1], num_classes=CLASSES)
        else:
            model = getattr(torchvision.models, name)(num_classes=CLASSES)
    nn = torch.nn
    if stem != "imagenet":
        side, stride = {"small": (3, 1), "strided": (5, 2)}[stem]
        model.conv1 = nn.Conv2d(3, 64, side, stride, side // 2, bias=False)
        model.maxpool = nn.Identity()
    if batch_norm:
        modules = []
        for module in model.features:
            modules.append(module)
            if isinstance(module, nn.Conv2d):
                modules.append(nn.BatchNorm2d(module.out_channels))
        model.features = nn.Sequential(*modules)

    def narrow(channels: int) -> int:
        return channels if channels == 3 else max(1, round(channels * width))

    for path, module in list(model.named_modules()) if width != 1 else []:
        parent, _, key = path.rpartition(".")
        if isinstance(module, nn.Conv2d):
            new = nn.Conv2d(
                narrow(module.in_channels), narrow(module.out_channels), module.kernel_size,
                module.stride, module.padding, bias=module.bias is not None,
            )  # fmt: skip
        elif isinstance(module, nn.BatchNorm2d):
            new = nn.BatchNorm2d(narrow(module.num_features))
        elif isinstance(module, nn.Linear):
            last = module.out_features == CLASSES
            new = nn.Linear(
                narrow(module.in_features), CLASSES if last else narrow(module.out_features)
            )
        elif isinstance(module, nn.Dropout):
            new = nn.Identity()
        else:
            continue
        setattr(model.get_submodule(parent), key, new)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # not the same for all channels
            for parameter in (module.weight, module.running_var):
                nn.init.uniform_(parameter, 0.5, 1.5)
            for parameter in (module.bias, module.running_mean):
                nn.init.normal_(parameter, std=0.1)
    return model


def numpy_state(model) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}


def batches(count: int, size: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    return [
        (
            rng.normal(size=(BATCH, size, size, 3)).astype(np.float32),
            rng.integers(CLASSES, size=BATCH),
        )
        for _ in range(count)
    ]


def nchw(images):
    return torch.from_numpy(images.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("name", "options", "size", "devices", "seed", "steps"),
    [
        ("resnet10", {"width": 1 / 16, "stem": "small"}, 32, 2, 1, 10),
        ("resnet10", {"width": 1 / 16, "stem": "strided"}, 33, 1, 0, 10),
        ("resnet14", {"width": 1 / 16}, 64, 1, 6, 1),
        ("alexnet", {"width": 1 / 16, "batch_norm": True, "dropout": 0.0}, 64, 2, 0, 10),
    ],
)
def test_steps_of_sgd(name, options, size, devices, seed, steps):
    """Logits and gradients of the first, everything after the last, and then evaluation.

    PyTorch computes in float64. Its own gradients jump by up to 28 % where the input of a ReLU is
    within rounding of 0. The seeds are ones at which noise of 1e-6 in the images changes PyTorch's
    gradients, and the weights after these steps, by less than 1e-4. For ten steps of ResNet-14
    there is none.
    """
    theirs = torchs(name, **{key: value for key, value in options.items() if key != "dropout"})
    theirs, layout = theirs.double(), LAYOUTS[name]
    ours = Net(name, **options)
    state, step = tuple(layout.read(numpy_state(theirs))), ours.step(devices)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=RATE)
    for index, (images, labels) in enumerate(batches(steps, size, seed)):
        logits, gradients, state = step(state, images, labels)
        expected = theirs.train()(nchw(images).double())
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(expected, torch.from_numpy(labels)).backward()
        if index == 0:
            np.testing.assert_allclose(logits, expected.detach().numpy(), atol=1e-4)
            found = layout.write(gradients, state[1])
            for key, parameter in theirs.named_parameters():
                # A bias before batch normalisation has none.
                scale = max(float(parameter.grad.abs().max()), 1e-3)
                np.testing.assert_allclose(
                    found[key], parameter.grad.numpy(), atol=1e-4 * scale, err_msg=key
                )
        optimizer.step()
    found = layout.write(*state)
    for key, value in theirs.state_dict().items():
        if "num_batches" not in key:
            scale = max(1.0, float(value.abs().max()))
            np.testing.assert_allclose(found[key], value, atol=1e-3 * scale, err_msg=key)
    theirs.load_state_dict({key: torch.tensor(value) for key, value in found.items()})
    images = batches(1, size)[0][0]
    evaluate = jax.jit(ours, compiler_options=FAST)
    expected = theirs.eval()(nchw(images).double()).detach().numpy()
    np.testing.assert_allclose(evaluate(*state, images), expected, atol=1e-4)


@pytest.mark.parametrize("stem", resnet.STEMS)
def test_the_stem_is_recognised(stem):
    found = layouts.recognise(numpy_state(torchs("resnet10", width=1 / 8, stem=stem)))
    assert found.model == {"name": "resnet10", "width": 1 / 8, "stem": stem}


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_parameters_are_torchvisions(name):
    shapes = jax.eval_shape(Net(name).init)
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)
    ours = layouts.RESNETS[name].write(zeros["params"], zeros[COLLECTION])
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)(num_classes=CLASSES).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {
        key: tuple(value.shape) for key, value in theirs.items()
    }
    assert {key: value.dtype for key, value in ours.items() if "num_batches" in key} == {
        key: np.int64 for key in theirs if "num_batches" in key
    }


def test_torchvisions_own_resnet50():
    theirs = torchs("resnet50").eval()
    found = layouts.recognise(numpy_state(theirs))
    assert found.model == {"name": "resnet50", "width": 1.0, "stem": "imagenet"}
    images = batches(1, 64)[0][0][:2]
    logits = jax.jit(Net("resnet50"), compiler_options=FAST)(*found.weights, images)
    expected = theirs(nchw(images)).detach().numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


@pytest.fixture(scope="module")
def small():
    """A narrow ResNet, its weights, and a batch."""
    net = Net("resnet10", width=1 / 16, stem="small", zero_init_residual=True)
    created = jax.jit(net.init, compiler_options=FAST)()
    images, labels = batches(1, 16)[0]
    return net, (created["params"], created[COLLECTION]), images, labels


def test_initial_weights(small):
    _, (params, stats), _, _ = small
    tensors = LAYOUTS["resnet10"].write(params, stats)
    for name, values in tensors.items():
        if values.ndim == 4:
            fan_out = values.shape[0] * values.shape[2] * values.shape[3]
            error = 5 / np.sqrt(2 * values.size)  # five standard errors
            assert values.std() == pytest.approx(np.sqrt(2 / fan_out), rel=error), name
        elif name.endswith(("bn2.weight", "running_mean")) and "layer" in name:
            assert not values.any() or "bn2" not in name, name
        elif "bn1.weight" in name or "downsample.1.weight" in name:
            assert (values == 1).all(), name


def test_devices_and_recomputation_change_nothing(small):
    net, state, images, labels = small
    _, *one = net.step(1)(state, images, labels)
    _, *two = net.step(2)(state, images, labels)

    def assert_close(got, expected):
        scale = max(float(np.abs(expected).max()), 1e-3)
        np.testing.assert_allclose(got, expected, atol=1e-5 * scale)

    jax.tree.map(assert_close, two, one)
    net.loss = jax.checkpoint(net.loss, policy=keep_blocks_only())
    _, *again = net.step(1)(state, images, labels)
    jax.tree.map(assert_close, again, one)


def test_bfloat16_computes_roughly_the_same(small):
    net, state, images, _ = small
    rough = Net("resnet10", width=1 / 16, stem="small", dtype="bfloat16")
    logits = jax.jit(rough, compiler_options=FAST)(*state, images)
    assert logits.dtype == jnp.float32
    exact = jax.jit(net, compiler_options=FAST)(*state, images)
    np.testing.assert_allclose(logits, exact, atol=0.05 * float(jnp.abs(exact).max()))


def test_a_resnet_goes_through_a_run_folder_and_back(tmp_path):
    theirs = torchs("resnet18", width=1 / 8).eval()
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "theirs.pth")
    import_weights(tmp_path / "theirs.pth", tmp_path / "run", IMAGENET)
    model = load_run(tmp_path / "run")
    assert model.run.config.model.name == "resnet18"
    assert model.run.config.model.width == 1 / 8
    images = [np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8) for _ in range(2)]
    normalised = ((np.stack(images) / 255 - IMAGENET.mean) / IMAGENET.std).astype(np.float32)
    expected = theirs(nchw(normalised))
    np.testing.assert_allclose(model.outputs(images), expected.detach().numpy(), atol=1e-4)
    weights.export_weights(tmp_path / "run", tmp_path / "ours.pth")
    other = torchs("resnet18", width=1 / 8).eval()
    other.load_state_dict(torch.load(tmp_path / "ours.pth", weights_only=True), strict=True)
    torch.testing.assert_close(other(nchw(normalised)), expected, rtol=0, atol=0)


def test_init_from_takes_a_backbone_without_a_last_layer(make_config, tmp_path):
    state = numpy_state(torchs("resnet18", width=1 / 16))
    headless = {name: value for name, value in state.items() if not name.startswith("fc.")}
    state_dict_files.write(tmp_path / "w.pth", headless, {})
    config = make_config("jigsaw").copy_and_resolve_references().unlock()
    config.init_from = str(tmp_path / "w.pth")
    source = load_source(config)
    assert set(source.params) == set(source.stats) == {"backbone"}
    np.testing.assert_array_equal(
        source.stats["backbone"]["layer1_0"]["bn1"]["var"], state["layer1.0.bn1.running_var"]
    )
    del headless["layer3.1.bn2.running_var"]
    headless["layer2.0.conv1.weight"] = headless["layer2.0.conv1.weight"][0]
    headless["projector.weight"] = np.zeros(2, np.float32)
    state_dict_files.write(tmp_path / "odd.pth", headless, {})
    with pytest.raises(InputError) as error:
        layouts.read_file(tmp_path / "odd.pth")
    for said in (
        "odd.pth is not torchvision's ResNet-18: missing layer3.1.bn2.running_var",
        "extra projector.weight",
        "layer2.0.conv1.weight has shape (4, 3, 3), expected 4 dimensions",
    ):
        assert said in str(error.value)


def test_a_resnet101_is_refused_with_a_list():
    with torch.device("meta"):
        names = torchvision.models.resnet101().state_dict()
    tensors = {name: np.zeros([0] * value.ndim, np.float32) for name, value in names.items()}
    with pytest.raises(InputError, match=r"ResNet-50: extra layer3.6.conv1.weight.*and \d+ more$"):
        layouts.recognise(tensors)
