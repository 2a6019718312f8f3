"""Losses, heads and memories of the joint-embedding methods against lightly and PyTorch."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax.evaluate import describe, evaluate, save
from ssljax.methods import METHODS, make_method, method_defaults
from ssljax.methods.assignments import entropies, sinkhorn
from ssljax.methods.contrast import normalize
from ssljax.methods.method import Context, DataSpec
from ssljax.methods.simsiam import SimSiam
from ssljax.methods.teacher import rising_momentum
from ssljax.models.batch_norm import COLLECTION, BatchNorm, grouped
from ssljax.runs import saved_evaluations
from ssljax.runs.metrics_log import read_metrics
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from tests import references

torch = references.load("torch")
lightly = references.load("lightly.loss")
swav_loss = references.load("lightly.loss.swav_loss")
pytestmark = pytest.mark.reference

B, D, K = 6, 5, 7
RNG = np.random.default_rng(0)


def method(name, **options):
    return make_method({**method_defaults(name), **options}, DataSpec(32))


def arrays(*shapes, unit=False):
    found = [RNG.normal(size=shape).astype(np.float32) for shape in shapes]
    return [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in found] if unit else found


def torchs(*values):
    return [torch.tensor(value, requires_grad=True) for value in values]


def compare(made, outputs, expected, theirs, targets=None, memory=None, progress=0.0, params=None):
    """The loss and its gradient with respect to `outputs`, a dict of arrays."""
    context = Context({"mask": np.ones(B, bool)}, None, targets, memory or {}, progress, params)
    value, gradient = jax.value_and_grad(lambda x: made.loss(x, context).mean())(outputs)
    expected.backward()
    assert float(value) == pytest.approx(expected.item(), rel=1e-5)
    for name, tensor in theirs.items():
        found = gradient[name]
        wanted = np.zeros_like(found) if tensor.grad is None else tensor.grad.numpy()
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6, err_msg=name)
    return context


def test_mocos_loss_is_the_authors_formula():
    made = method("moco", temperature=0.3)
    predictions, keys = *arrays((B, 2, D)), *arrays((B, 2, D), unit=True)
    (theirs,) = torchs(predictions)
    queries, fixed = torch.nn.functional.normalize(theirs, dim=-1), torch.tensor(keys)
    expected = sum(
        2 * 0.3 * torch.nn.functional.cross_entropy(
            queries[:, view] @ fixed[:, 1 - view].T / 0.3, torch.arange(B)
        )
        for view in (0, 1)
    )  # fmt: skip
    compare(made, {"predictions": predictions}, expected, {"predictions": theirs}, keys)


def test_moco_v2s_loss_is_lightlys_and_its_queue_drops_the_oldest():
    made = method("moco_v2", queue=2 * B, projection=D, temperature=0.2)
    queries, (keys, queue) = arrays((B, 1, D))[0], arrays((B, D), (2 * B, D), unit=True)
    (theirs,) = torchs(queries)
    criterion = lightly.NTXentLoss(0.2, memory_bank_size=(2 * B, D))
    criterion.memory_bank.bank = torch.tensor(queue)
    expected = criterion(theirs[:, 0], torch.tensor(keys))
    context = compare(
        made, {"projections": queries}, expected, {"projections": theirs}, keys, {"queue": queue}
    )
    remembered = made.remember({"projections": queries}, context)["queue"]
    np.testing.assert_array_equal(remembered, np.concatenate([keys, queue[:B]]))
    first = made.first_memory()["queue"]
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, rtol=1e-5)


def test_byols_loss_is_lightlys():
    made = method("byol")
    predictions, targets = arrays((B, 2, D), (B, 2, D))
    (theirs,) = torchs(predictions)
    similarity, fixed = lightly.NegativeCosineSimilarity(), torch.tensor(targets)
    expected = sum(2 + 2 * similarity(theirs[:, view], fixed[:, 1 - view]) for view in (0, 1))
    compare(made, {"predictions": predictions}, expected, {"predictions": theirs}, targets)


def test_simsiams_loss_is_lightlys():
    predictions, projections = arrays((B, 2, D), (B, 2, D))
    p, z = torchs(predictions, projections)
    similarity = lightly.NegativeCosineSimilarity()
    expected = sum(similarity(p[:, view], z[:, 1 - view].detach()) for view in (0, 1)) / 2
    outputs = {"predictions": predictions, "projections": projections}
    compare(method("simsiam"), outputs, expected, {"predictions": p, "projections": z})


def test_barlow_twins_loss_is_lightlys():
    (projections,) = arrays((B, 2, D))
    (theirs,) = torchs(projections)
    expected = 0.1 * lightly.BarlowTwinsLoss(0.0051)(theirs[:, 0], theirs[:, 1])
    made = method("barlow_twins", loss_scale=0.1)
    compare(made, {"projections": projections}, expected, {"projections": theirs})


def test_vicregs_loss_is_lightlys():
    (projections,) = arrays((B, 2, D))
    projections *= 0.5  # so that the variance counts
    (theirs,) = torchs(projections)
    expected = lightly.VICRegLoss()(theirs[:, 0], theirs[:, 1])
    compare(method("vicreg"), {"projections": projections}, expected, {"projections": theirs})
    equal = {"projections": np.ones((B, 2, D), np.float32)}
    context = Context({"mask": np.ones(B, bool)}, None, None, {}, 0.0, None)
    np.testing.assert_allclose(method("vicreg").loss(equal, context), 24.75, rtol=1e-5)


@pytest.mark.parametrize("queue", [0, 2 * B])
def test_swavs_loss_is_lightlys(queue):
    made = method("swav", prototypes=K, projection=D, queue=queue)
    (scores,) = arrays((B, 5, K))  # two global and three local views
    scores = np.tanh(scores)
    (theirs,) = torchs(scores)
    (kernel,), (kept,) = arrays((D, K)), arrays((2, max(queue, 1), D), unit=True)
    kernel /= np.linalg.norm(kernel, axis=0)
    earlier = [torch.tensor(kept[view] @ kernel) for view in (0, 1)] if queue else None
    views = list(theirs.unbind(1))
    expected = lightly.SwaVLoss()(views[:2], views[2:], earlier)
    memory = {"queue": kept, "filled": np.int32(queue)} if queue else {}
    projections = normalize(arrays((B, 2, D))[0])
    outputs = {"scores": scores, "projections": projections}
    params = {"prototypes": {"kernel": kernel}}
    context = compare(
        made, outputs, expected, {"scores": theirs}, memory=memory, progress=1.0, params=params
    )
    if queue:
        after = made.remember(outputs, context)
        np.testing.assert_array_equal(after["queue"][1, :B], projections[:, 1])
        np.testing.assert_array_equal(after["queue"][0, B:], kept[0, :B])
        # A queue that is not full yet is not used.
        without = method("swav", prototypes=K, projection=D)
        empty = context._replace(memory={**memory, "filled": np.int32(queue - 1)})
        np.testing.assert_allclose(
            made.loss(outputs, empty), without.loss(outputs, context), rtol=1e-5
        )
        late = method("swav", prototypes=K, projection=D, queue=queue, queue_start=0.5)
        assert late.remember(outputs, context._replace(progress=0.4))["filled"] == 0
        assert late.remember(outputs, context)["filled"] == queue


def test_assignments_are_lightlys_and_balanced():
    (scores,) = arrays((9, K))
    scores = np.tanh(scores)
    found = sinkhorn(scores, jnp.ones(9), 0.05)
    expected = swav_loss.sinkhorn(torch.tensor(scores), epsilon=0.05)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    some = sinkhorn(np.concatenate([scores, scores[:2]]), jnp.arange(11) < 9, 0.05)
    np.testing.assert_allclose(some[:9], found, rtol=1e-5)
    assert not some[9:].any()


def test_dinos_loss_and_centre_are_lightlys_over_three_steps():
    made = method("dino", prototypes=K, teacher_temperature=0.07, temperature_warmup=0.5)
    criterion = lightly.DINOLoss(K)
    memory = made.first_memory()
    for progress in (0.0, 0.25, 1.0):
        scores, targets = arrays((B, 5, K), (B, 2, K))
        (theirs,) = torchs(scores)
        temperature = 0.04 + 0.03 * min(1, progress / 0.5)
        expected = criterion(
            list(torch.tensor(targets).unbind(1)), list(theirs.unbind(1)), temperature
        )
        context = compare(
            made, {"scores": scores}, expected, {"scores": theirs}, targets, memory, progress
        )
        memory = made.remember({"scores": scores}, context)
        np.testing.assert_allclose(memory["centre"], criterion.center.squeeze(), rtol=1e-5)


def dense(inputs, outputs, bias=True):
    return torch.nn.Linear(inputs, outputs, bias=bias)


def norm(size, affine=True):
    return torch.nn.BatchNorm1d(size, affine=affine)


RELU, GELU = torch.nn.ReLU, torch.nn.GELU
# As the authors' code has them; 4 features, 6 hidden units, 3 outputs.
HEADS = {
    ("moco", "projector"): lambda: [dense(4, 6, False), norm(6), RELU(), dense(6, 3, False),
                                    norm(3, False)],
    ("moco", "predictor"): lambda: [dense(4, 6, False), norm(6), RELU(), dense(6, 3, False)],
    ("moco for ViTs", "projector"): lambda: [dense(4, 6, False), norm(6), RELU(),
                                             dense(6, 6, False), norm(6), RELU(),
                                             dense(6, 3, False), norm(3, False)],
    ("moco for ViTs", "predictor"): lambda: [dense(4, 6, False), norm(6), RELU(),
                                             dense(6, 3, False), norm(3, False)],
    ("moco_v2", "projector"): lambda: [dense(4, 6), RELU(), dense(6, 3)],
    ("byol", "projector"): lambda: [dense(4, 6), norm(6), RELU(), dense(6, 3, False)],
    ("byol", "predictor"): lambda: [dense(4, 6), norm(6), RELU(), dense(6, 3, False)],
    ("simsiam", "projector"): lambda: [dense(4, 3, False), norm(3), RELU(), dense(3, 3, False),
                                       norm(3), RELU(), dense(3, 3, False), norm(3, False)],
    ("simsiam", "predictor"): lambda: [dense(4, 6, False), norm(6), RELU(), dense(6, 3)],
    ("barlow_twins", "projector"): lambda: [dense(4, 3, False), norm(3), RELU(),
                                            dense(3, 3, False), norm(3), RELU(),
                                            dense(3, 3, False)],
    ("vicreg", "projector"): lambda: [dense(4, 3), norm(3), RELU(), dense(3, 3), norm(3), RELU(),
                                      dense(3, 3, False)],
    ("swav", "projector"): lambda: [dense(4, 6), norm(6), RELU(), dense(6, 3)],
    ("dino", "projector"): lambda: [dense(4, 6), GELU(), dense(6, 6), GELU(), dense(6, 3)],
}  # fmt: skip


@pytest.mark.parametrize(("name", "part"), HEADS)
def test_heads_are_the_authors(name, part):
    sizes = {"hidden": 6, "projection": 3, "bottleneck": 3}
    for_vits = {"projector_layers": 3, "predictor_norm": True} if "ViTs" in name else {}
    options = {key: sizes[key] for key in sizes if key in method_defaults(name.split()[0])}
    head = method(name.split()[0], **options, **for_vits).heads()[part](batch_statistics=True)
    (x,) = arrays((8, 4))
    created = head.init(jax.random.key(0), x)
    params = jax.tree.map(  # scales and biases that are not 1 and 0
        lambda leaf: leaf + 0.1 * RNG.normal(size=leaf.shape).astype(np.float32), created["params"]
    )
    modules = HEADS[name, part]()
    layers = [m for m in modules if isinstance(m, torch.nn.Linear | torch.nn.BatchNorm1d)]
    count, seen = 0, set()
    for module in layers:
        count += isinstance(module, torch.nn.Linear)
        kind = "dense" if isinstance(module, torch.nn.Linear) else "norm"
        given = params.get(f"{kind}{count}", {})
        expected = {name for name, value in module.named_parameters()}
        assert len(given) == len(expected), (kind, count)
        seen.update([f"{kind}{count}"] if given else [])
        with torch.no_grad():
            for key, value in given.items():
                target = module.bias if key == "bias" else module.weight
                target.copy_(torch.tensor(np.array(value).T))
    assert seen == set(params)
    theirs = torch.nn.Sequential(*modules)
    (inputs,) = torchs(x)
    (theirs(inputs) ** 3).sum().backward()

    def loss(x):
        outputs, _ = head.apply({**created, "params": params}, x, mutable=[COLLECTION])
        return (outputs**3).sum(), outputs

    gradient, outputs = jax.grad(loss, has_aux=True)(x)
    np.testing.assert_allclose(outputs, theirs(inputs).detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradient, inputs.grad, rtol=1e-3, atol=1e-4)


def test_dinos_last_layer_has_weights_of_length_one():
    head = method("dino", prototypes=K).heads()["prototypes"]()
    (x,) = arrays((B, D), unit=True)
    kernel = 3 * arrays((D, K))[0]
    theirs = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(D, K, bias=False))
    with torch.no_grad():
        theirs.parametrizations.weight.original0.fill_(1)
        theirs.parametrizations.weight.original1.copy_(torch.tensor(kernel.T))
    found = head.apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(found, theirs(torch.tensor(x)).detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.quick
def test_groups_have_statistics_of_their_own():
    (x,) = arrays((6, 4, 4, 3))
    groups = np.array([0, 1, 0, 1, 1, 0])
    layer = BatchNorm(batch_statistics=True)
    created = layer.init(jax.random.key(0), x)
    with grouped(jnp.asarray(groups), 2):
        found, changed = layer.apply(created, x, mutable=[COLLECTION])
    stats = []
    for group in (0, 1):
        alone, own = layer.apply(created, x[groups == group], mutable=[COLLECTION])
        np.testing.assert_allclose(found[groups == group], alone, atol=1e-5)
        stats.append(own[COLLECTION])
    jax.tree.map(
        lambda got, *both: np.testing.assert_allclose(got, np.mean(both, axis=0), rtol=1e-5),
        changed[COLLECTION], *stats,
    )  # fmt: skip


def test_the_teacher_slows_down():
    steps = np.linspace(0, 1, 5, dtype=np.float32)
    expected = 1 - 0.1 * (np.cos(np.pi * steps) + 1) / 2
    np.testing.assert_allclose(rising_momentum(0.9, steps), expected, rtol=1e-6)


def test_entropies_and_their_concerns():
    probabilities = np.zeros((B, 2, K), np.float32)
    probabilities[..., 3] = 1
    mask = jnp.arange(B) < 4
    found = {name: values[0] for name, (values, _) in entropies(probabilities, mask).items()}
    assert found == {"assignment_entropy": 0, "prototype_entropy": 0}
    said = method("swav").concerns({**found, "embedding_std": 1.0, "rank": 9.0})
    assert "prototype_entropy is 0.000" in said[0]
    uniform = entropies(np.full((B, 2, K), 1 / K, np.float32), mask)
    for values, _ in uniform.values():
        np.testing.assert_allclose(values, 1, rtol=1e-5)
    probabilities = np.eye(K, dtype=np.float32)[np.arange(B * 2) % K].reshape(B, 2, K)
    found = entropies(probabilities, mask)  # 8 views: seven prototypes, one of them twice
    shares = np.array([2, 1, 1, 1, 1, 1, 1]) / 8
    expected = -(shares * np.log(shares)).sum() / np.log(K)
    np.testing.assert_allclose(found["prototype_entropy"][0], expected, rtol=1e-5)


def test_the_shape_of_embeddings_is_that_of_a_loop():
    made = method("barlow_twins")
    z = arrays((B, 2, D))[0]
    mask = np.arange(B) < 5
    context = Context({"mask": jnp.asarray(mask)}, None, None, {}, 0.0, None)
    unit = z / np.linalg.norm(z, axis=-1, keepdims=True)
    spread = made.metrics({"projections": z}, context)["embedding_std"][0]
    np.testing.assert_allclose(spread, unit[mask].std(axis=0).mean() * np.sqrt(D), rtol=1e-5)
    found = {name: v[0] for name, v in made.diagnostics({"projections": z}, context).items()}
    pairs = [np.exp(-2 * ((unit[i, 0] - unit[j, 0]) ** 2).sum())
             for i in range(B) for j in range(B) if i != j]  # fmt: skip
    assert found["uniformity"][0] == pytest.approx(np.log(np.mean(pairs)), rel=1e-5)
    np.testing.assert_allclose(found["alignment"], ((unit[:, 0] - unit[:, 1]) ** 2).sum(axis=1),
                               rtol=1e-5)  # fmt: skip
    values = np.linalg.svd(unit[:, 0], compute_uv=False)
    shares = values / values.sum() + 1e-7
    assert found["rank"][0] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-4)


def test_embeddings_of_zeros_have_collapsed():
    context = Context({"mask": jnp.ones(B, bool)}, None, None, {}, 0.0, None)
    made = method("barlow_twins")
    found = {
        name: float(values[0])
        for name, (values, _) in made.diagnostics(
            {"projections": np.zeros((B, 2, D))}, context
        ).items()
    }
    assert found == pytest.approx({"alignment": 0, "uniformity": 0, "rank": 1}, abs=1e-4)


def test_a_query_of_nan_has_not_found_its_key():
    made = method("moco_v2")
    projections, keys, queue = arrays((B, 1, D), (B, D), (16, D))
    projections[0] = np.nan
    context = Context({"mask": jnp.ones(B, bool)}, None, keys, {"queue": queue}, 0.0, None)
    accuracy, _ = made.metrics({"projections": projections}, context)["accuracy"]
    assert accuracy[0] == 0


def test_metrics_of_whole_batches_have_no_standard_error(make_config, tmp_path):
    config = make_config("vicreg,small_net")
    train(config, tmp_path)
    result = evaluate(tmp_path)
    assert set(result["metrics"]) - set(result["standard_error"]) == {
        "loss", "embedding_std", "rank", "uniformity",
    }  # fmt: skip
    assert re.search(r"(?m)^rank +\d+\.\d{4}$", "\n".join(describe(result)))
    save(result, tmp_path)
    assert [each.metrics for each in saved_evaluations.read_all(tmp_path)] == [result["metrics"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoStopGradient(SimSiam):
    """SimSiam as it must not be: gradients flow to the targets."""

    def loss(self, outputs, context):
        targets = normalize(outputs["projections"])[:, ::-1]
        return -jnp.sum(normalize(outputs["predictions"]) * targets, axis=-1).mean(axis=1)


@pytest.mark.parametrize("stops", [True, False])
def test_simsiam_without_its_stop_gradient_collapses_and_says_so(
    make_config, tmp_path, monkeypatch, capsys, stops
):
    monkeypatch.setitem(METHODS, "simsiam", SimSiam if stops else NoStopGradient)
    config = make_config("simsiam,small_net").copy_and_resolve_references().unlock()
    config.epochs = config.validate_every_epochs = 40
    config.optimizer.name, config.optimizer.momentum = "sgd", 0.9
    config.optimizer.learning_rate, config.optimizer.weight_decay = 0.5, 1e-4
    config.schedule.name = "constant"
    train(config, tmp_path)
    (row,) = [row for row in read_metrics(tmp_path) if row["kind"] == "validation"]
    said = capsys.readouterr().err
    if stops:
        assert row["rank"] > 4
        assert "collapsed" not in said
    else:
        assert row["rank"] < 1.9
        assert "the embeddings have collapsed: their effective rank is 1." in said
        assert "likely the gradient flows to the targets" in said


@pytest.mark.parametrize(
    ("name", "options", "batch", "said"),
    [
        ("moco", {}, 1, "batch_size must be >= 2"),
        ("moco_v2", {}, 32, "method.group must be <= batch_size / 2 = 16, .* got 32"),
        (
            "moco_v2",
            {"queue": 100, "group": 8},
            32,
            "multiple of batch_size=32, .* nearest to 100 is 96",
        ),
        ("swav", {"queue": 100}, 32, "multiple of batch_size=32, .* nearest to 100 is 96"),
        ("swav", {"prototypes": 33}, 32, "prototypes must be <= batch_size .* = 32, .* got 33"),
    ],
)
def test_batches_that_are_too_small_are_refused(name, options, batch, said):
    with pytest.raises(InputError, match=said):
        method(name, **options).check_batch(batch)


@pytest.mark.parametrize(
    ("name", "views", "said"),
    [
        ("simclr", "mae_small", "mae_small does not have two views to compare"),
        ("byol", "swav_one_channel", "local views, .* dino and ibot take; swav_small has none"),
    ],
)
def test_views_that_do_not_suit_the_method_are_refused(name, views, said):
    with pytest.raises(InputError, match=said):
        method(name, views=views)
