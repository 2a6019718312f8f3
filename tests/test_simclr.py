"""SimCLR against lightly, and whole steps against a plain loop in PyTorch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.methods.contrast import normalize, nt_xent
from ssljax.models.batch_norm import COLLECTION
from ssljax.models.heads import MLP
from ssljax.models.torch import layouts
from ssljax.runs.config import resolve
from ssljax.runs.run import open_run
from ssljax.settings.errors import InputError
from ssljax.training.run_step import make_run_step
from tests import references, ten_steps
from tests.ten_steps import BATCH
from tests.test_backbones_equal_to_torchvision import nchw, numpy_state, torchs

torch = references.load("torch")
lightly_loss = references.load("lightly.loss")
pytestmark = pytest.mark.reference
LEARNING_RATE = 1e-5  # rounding grows from step to step, and more so with a higher one


@pytest.mark.quick
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_loss_is_lightlys(temperature):
    views = np.random.default_rng(0).normal(size=(6, 2, 5)).astype(np.float32)
    theirs = torch.from_numpy(views.copy()).requires_grad_()
    expected = lightly_loss.NTXentLoss(temperature)(theirs[:, 0], theirs[:, 1])
    expected.backward()
    value, gradient = jax.value_and_grad(lambda z: nt_xent(z, temperature)[0].mean())(views)
    assert float(value) == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(gradient, theirs.grad, rtol=1e-4, atol=1e-6)
    unit = views / np.linalg.norm(views, axis=-1, keepdims=True)
    similar = unit.reshape(12, 5) @ unit.reshape(12, 5).T - 9 * np.eye(12)
    found = (similar.argmax(axis=1) == np.arange(12) ^ 1).reshape(6, 2).mean(axis=1)
    np.testing.assert_array_equal(nt_xent(views, temperature)[1], found)


@pytest.mark.quick
def test_embeddings_of_zeros_have_a_gradient():
    gradient = jax.grad(lambda z: normalize(z).sum())(jnp.zeros((2, 3)))
    assert np.isfinite(gradient).all()


def torch_head(inputs: int, hidden: int, outputs: int):
    """The projector of the authors' code; its last normalisation has no bias."""
    nn = torch.nn
    head = nn.Sequential(
        nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(),
        nn.Linear(hidden, outputs, bias=False), nn.BatchNorm1d(outputs),
    )  # fmt: skip
    head[4].bias.requires_grad_(False)
    return head


def load_head(head, params) -> None:
    with torch.no_grad():
        for module, name in ((head[0], "dense1"), (head[3], "dense2")):
            module.weight.copy_(torch.from_numpy(np.array(params[name]["kernel"]).T))


@pytest.mark.quick
def test_the_projector_is_the_authors():
    x = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    ours = MLP(
        sizes=(0, 4),
        use_bias=False,
        output_bias=False,
        output_norm=True,
        output_shift=False,
        batch_statistics=True,
    )
    params = ours.init(jax.random.key(0), x)["params"]
    assert "bias" not in params["norm2"]
    theirs = torch_head(6, 6, 4)
    load_head(theirs, params)
    (theirs(torch.from_numpy(x)) ** 3).sum().backward()

    def loss(params):
        outputs, changed = ours.apply({"params": params}, x, mutable=[COLLECTION])
        return (outputs**3).sum(), changed[COLLECTION]

    gradient, stats = jax.grad(loss, has_aux=True)(params)
    for index, name in ((0, "dense1"), (3, "dense2")):
        np.testing.assert_allclose(
            gradient[name]["kernel"].T, theirs[index].weight.grad, rtol=1e-4, atol=1e-5
        )
    np.testing.assert_allclose(gradient["norm2"]["scale"], theirs[4].weight.grad, rtol=1e-4)
    np.testing.assert_allclose(stats["norm2"]["var"], theirs[4].running_var, rtol=1e-5)


@pytest.fixture(scope="module")
def trained(data_dir):
    return ten_steps.take(ten_steps.make_run("simclr", data_dir, LEARNING_RATE))


def test_ten_steps_are_those_of_a_plain_loop(trained):
    first, losses, last, seen, _ = trained
    layout = layouts.layout_of({"name": "resnet18"})
    backbone = torchs("resnet18", width=1 / 16, stem="small").double()
    tensors = layout.write({"backbone": first.params["backbone"]},
                           {"backbone": first.stats["backbone"]})  # fmt: skip
    backbone.fc = torch.nn.Identity()
    backbone.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()})
    head = torch_head(32, 32, 128).double()
    load_head(head, first.params["head"])
    parameters = [p for p in (*backbone.parameters(), *head.parameters()) if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=0.9, weight_decay=1e-3)
    criterion = lightly_loss.NTXentLoss(0.5)
    for views, ours in zip(seen, losses, strict=True):
        flat = nchw(views.reshape(-1, *views.shape[2:])).double()
        z = head(backbone(flat)).reshape(BATCH, 2, -1)
        loss = criterion(z[:, 0], z[:, 1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert ours == pytest.approx(loss.item(), rel=1e-4)
    expected = numpy_state(backbone)
    found = layout.write({"backbone": last.params["backbone"]},
                         {"backbone": last.stats["backbone"]})  # fmt: skip
    changes = [
        (value - tensors[name], expected[name] - tensors[name])
        for name, value in found.items()
        if not name.endswith("num_batches_tracked")
    ]
    for index, name in ((0, "dense1"), (3, "dense2")):
        before, after = (state.params["head"][name]["kernel"].T for state in (first, last))
        changes.append((after - before, head[index].weight.detach().numpy() - before))
    for ours, theirs in changes:  # rounding grows from step to step: it began at 5e-6
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
        assert np.linalg.norm(ours - theirs) < 0.05 * np.linalg.norm(theirs)
    running = last.stats["head"]["norm2"]["var"]
    np.testing.assert_allclose(running, head[4].running_var, rtol=1e-3)


def test_bfloat16_learns_what_float32_learns(data_dir, trained):
    rounded = ten_steps.take(ten_steps.make_run("simclr", data_dir, LEARNING_RATE, "bfloat16"))
    np.testing.assert_allclose(rounded.losses, trained.losses, rtol=0.03)


@pytest.mark.quick
def test_a_batch_of_one_has_no_negatives(make_config):
    config = make_config("simclr").copy_and_resolve_references().unlock()
    config.batch_size = 1
    with pytest.raises(InputError, match="batch_size must be >= 2: the method compares the images"):
        make_run_step(open_run(resolve(config)), 7, devices=jax.devices()[:1])
