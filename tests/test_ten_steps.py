"""Ten whole steps of some methods against plain loops in PyTorch, in float64."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from ssljax.models.torch import layouts
from tests import references, ten_steps
from tests.ten_steps import BATCH
from tests.test_backbones_equal_to_torchvision import nchw, torchs

torch = references.load("torch")
swav_loss = references.load("lightly.loss.swav_loss")
pytestmark = pytest.mark.reference
F = torch.nn.functional
LEARNING_RATE = 1e-5


def dense(inputs, outputs, bias=True):
    return torch.nn.Linear(inputs, outputs, bias=bias)


def with_norm(inputs, hidden, outputs, last_bias):
    return torch.nn.Sequential(
        dense(inputs, hidden), torch.nn.BatchNorm1d(hidden), torch.nn.ReLU(),
        dense(hidden, outputs, last_bias),
    )  # fmt: skip


def backbone_of(part, stats):
    """A narrow ResNet-18 of torchvision with given weights, in float64."""
    layout = layouts.layout_of({"name": "resnet18"})
    tensors = layout.write({"backbone": part}, {"backbone": stats})
    network = torchs("resnet18", width=1 / 16, stem="small").double()
    network.fc = torch.nn.Identity()
    network.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()})
    return network


def tensors_of(head):
    """The arrays of a sequence of layers by our names, with our axes."""
    found, count = {}, 0
    for module in head:
        if isinstance(module, torch.nn.Linear):
            count += 1
            found[f"dense{count}/kernel"] = module.weight.detach().numpy().T
            if module.bias is not None:
                found[f"dense{count}/bias"] = module.bias.detach().numpy()
        elif isinstance(module, torch.nn.BatchNorm1d):
            found |= {f"norm{count}/scale": module.weight.detach().numpy(),
                      f"norm{count}/bias": module.bias.detach().numpy(),
                      f"norm{count}/mean": module.running_mean.numpy(),
                      f"norm{count}/var": module.running_var.numpy()}  # fmt: skip
    return found


def load(head, params):
    head.double()
    linear = [module for module in head if isinstance(module, torch.nn.Linear)]
    with torch.no_grad():
        for number, module in enumerate(linear, 1):
            given = params[f"dense{number}"]
            module.weight.copy_(torch.tensor(np.array(given["kernel"]).T))
            if module.bias is not None:
                module.bias.copy_(torch.tensor(np.array(given["bias"])))
    return head


def check(before, params, stats, backbone, heads):
    """Our changes of parameters, and our statistics, are those of PyTorch's modules."""
    layout = layouts.layout_of({"name": "resnet18"})
    old, found = (
        layout.write({"backbone": tree["backbone"]}, {"backbone": stats["backbone"]})
        for tree in (before, params)
    )
    expected = {name: value.numpy() for name, value in backbone.state_dict().items()}
    triples = {name: (old[name], value, expected[name]) for name, value in found.items()
               if not name.endswith("num_batches_tracked")}  # fmt: skip
    for part, head in heads.items():
        for path, value in tensors_of(head).items():
            layer, name = path.split("/")
            new = (stats if name in ("mean", "var") else params)[part][layer][name]
            first = new if name in ("mean", "var") else before[part][layer][name]
            triples[f"{part}/{path}"] = (first, new, value)
    for name, (first, ours, theirs) in triples.items():
        np.testing.assert_allclose(ours, theirs, atol=1e-3, rtol=1e-3, err_msg=name)
        if ours is not first and "running" not in name:
            change = np.linalg.norm(theirs - first)  # rounding grows from step to step
            assert np.linalg.norm(ours - theirs) < 0.05 * change + 1e-6, name


def sgd(*modules):
    parameters = [p for module in modules for p in module.parameters()]
    return torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=0.9, weight_decay=1e-3)


def descend(optimizer, loss, ours):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    assert ours == pytest.approx(loss.item(), rel=1e-3)


def follow(teacher, student, keep):
    """Parameters only; statistics come from the teacher's own forward passes."""
    with torch.no_grad():
        for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
            old.mul_(keep).add_((1 - keep) * new)


def test_byol(data_dir):
    run = ten_steps.make_run("byol", data_dir, LEARNING_RATE)
    first, losses, last, seen, _ = ten_steps.take(run)
    backbone = backbone_of(first.params["backbone"], first.stats["backbone"])
    projector = load(with_norm(32, 16, 8, False), first.params["projector"])
    predictor = load(with_norm(8, 16, 8, False), first.params["predictor"])
    target, target_projector = copy.deepcopy(backbone), copy.deepcopy(projector)
    optimizer = sgd(backbone, projector, predictor)
    total = run.config.epochs * 12
    for step, (views, ours) in enumerate(zip(seen, losses, strict=True)):
        images = [nchw(views[:, view]).double() for view in (0, 1)]
        predictions = [predictor(projector(backbone(x))) for x in images]
        with torch.no_grad():
            targets = [target_projector(target(x)) for x in images]
        loss = sum(
            2 - 2 * F.cosine_similarity(predictions[view], targets[1 - view]).mean()
            for view in (0, 1)
        )
        descend(optimizer, loss, ours)
        keep = 1 - 0.1 * (np.cos(np.pi * step / total) + 1) / 2
        follow(target, backbone, keep)
        follow(target_projector, projector, keep)
    check(
        first.params,
        last.params,
        last.stats,
        backbone,
        {"projector": projector, "predictor": predictor},
    )
    check(
        first.params,
        last.teacher["params"],
        last.teacher["stats"],
        target,
        {"projector": target_projector},
    )


class GroupNormalised(torch.nn.BatchNorm2d):
    """Normalises groups of images one by one; the running statistics follow their mean."""

    groups = ()

    def forward(self, x):
        y, means, variances = torch.empty_like(x), [], []
        for group in self.groups:
            y[group] = F.batch_norm(x[group], None, None, self.weight, self.bias, training=True)
            means.append(x[group].mean((0, 2, 3)).detach())
            variances.append(x[group].var((0, 2, 3)).detach())
        self.running_mean.lerp_(torch.stack(means).mean(0), 0.1)
        self.running_var.lerp_(torch.stack(variances).mean(0), 0.1)
        return y


def divide(network, places):
    """Sets the groups of all normalisations, and makes them such, given each image's place."""
    groups = [np.flatnonzero(places // 8 == group) for group in range(BATCH // 8)]
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.__class__ = GroupNormalised
            module.groups = groups


def test_moco_v2(data_dir):
    first, losses, last, seen, _ = ten_steps.take(
        ten_steps.make_run("moco_v2", data_dir, LEARNING_RATE, momentum=0.9)
    )
    backbone = backbone_of(first.params["backbone"], first.stats["backbone"])
    projector = torch.nn.Sequential(dense(32, 16), torch.nn.ReLU(), dense(16, 8))
    load(projector, first.params["projector"])
    target, target_projector = copy.deepcopy(backbone), copy.deepcopy(projector)
    queue = torch.tensor(first.memory["queue"], dtype=torch.float64)
    optimizer = sgd(backbone, projector)
    for inputs, ours in zip(seen, losses, strict=True):
        images = [nchw(inputs["views"][:, view]).double() for view in (0, 1)]
        divide(backbone, np.arange(BATCH))
        queries = F.normalize(projector(backbone(images[0])))
        divide(target, np.argsort(np.argsort(inputs["shuffle"])))
        with torch.no_grad():
            keys = F.normalize(target_projector(target(images[1])))
        logits = torch.cat([(queries * keys).sum(1, keepdim=True), queries @ queue.T], dim=1) / 0.2
        descend(optimizer, F.cross_entropy(logits, torch.zeros(BATCH, dtype=torch.long)), ours)
        follow(target, backbone, 0.9)
        follow(target_projector, projector, 0.9)
        queue = torch.cat([keys, queue])[:64]
    check(first.params, last.params, last.stats, backbone, {"projector": projector})
    check(
        first.params,
        last.teacher["params"],
        last.teacher["stats"],
        target,
        {"projector": target_projector},
    )
    np.testing.assert_allclose(last.memory["queue"], queue, atol=1e-3)


def test_swav(data_dir):
    """The queue of two batches is in use from the third step on.

    Assignments are smooth: sharp ones amplify rounding from step to step.
    """
    run = ten_steps.make_run(
        "swav", data_dir, LEARNING_RATE, queue=32, freeze_prototypes=0.0, epsilon=0.25
    )
    first, losses, last, seen, _ = ten_steps.take(run)
    backbone = backbone_of(first.params["backbone"], first.stats["backbone"])
    projector = load(with_norm(32, 16, 8, True), first.params["projector"])
    prototypes = dense(8, 12, False).double()
    with torch.no_grad():
        prototypes.weight.copy_(torch.tensor(first.params["prototypes"]["kernel"].T))
    queues = [torch.zeros(0, 8, dtype=torch.float64) for _ in (0, 1)]
    optimizer = sgd(backbone, projector, prototypes)
    for views, ours in zip(seen, losses, strict=True):
        with torch.no_grad():
            prototypes.weight.copy_(F.normalize(prototypes.weight))
        flat = nchw(views.reshape(-1, *views.shape[2:])).double()
        embeddings = F.normalize(projector(backbone(flat)))
        scores = prototypes(embeddings).reshape(BATCH, 2, 12)
        embeddings, loss = embeddings.detach().reshape(BATCH, 2, 8), 0
        for view in (0, 1):
            with torch.no_grad():
                all_scores = scores[:, view]
                if len(queues[view]) == 32:
                    all_scores = torch.cat([all_scores, queues[view] @ prototypes.weight.T])
                codes = swav_loss.sinkhorn(all_scores, epsilon=0.25)[:BATCH]
            other = F.log_softmax(scores[:, 1 - view] / 0.1, dim=1)
            loss = loss - (codes * other).sum(1).mean() / 2
            queues[view] = torch.cat([embeddings[:, view], queues[view]])[:32]
        descend(optimizer, loss, ours)
    check(first.params, last.params, last.stats, backbone, {"projector": projector})
    np.testing.assert_allclose(
        last.params["prototypes"]["kernel"], F.normalize(prototypes.weight).detach().T, atol=1e-3
    )
    np.testing.assert_allclose(last.memory["queue"], np.stack(queues), atol=1e-3)


def test_jigsaw_permutations(data_dir):
    run = ten_steps.make_run("jigsaw_permutations", data_dir, LEARNING_RATE)
    first, losses, last, seen, batches = ten_steps.take(run)
    backbone = backbone_of(first.params["backbone"], first.stats["backbone"])
    tile_head = torch.nn.Sequential(dense(32, 16, False), torch.nn.BatchNorm1d(16), torch.nn.ReLU())
    load(tile_head, first.params["tile_head"])
    head = torch.nn.Sequential(dense(4 * 16, 8))
    load(head, {"dense1": first.params["head"]})
    optimizer = sgd(backbone, tile_head, head)
    for tiles, batch, ours in zip(seen, batches, losses, strict=True):
        flat = nchw(tiles.reshape(-1, *tiles.shape[2:])).double()
        logits = head(tile_head(backbone(flat)).reshape(BATCH, -1))
        wanted = torch.tensor(batch["permutation"], dtype=torch.long)
        descend(optimizer, F.cross_entropy(logits, wanted), ours)
    check(first.params, last.params, last.stats, backbone, {"tile_head": tile_head})
    for name, theirs in tensors_of(head).items():
        ours = last.params["head"][name.partition("/")[2]]
        np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=name)


def test_relative_patch(data_dir):
    run = ten_steps.make_run("relative_patch", data_dir, LEARNING_RATE, grey=0.0)
    first, losses, last, seen, batches = ten_steps.take(run)
    backbone = backbone_of(first.params["backbone"], first.stats["backbone"])
    head = torch.nn.Sequential(
        dense(2 * 32, 16, False), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), dense(16, 8)
    )
    load(head, first.params["head"])
    optimizer = sgd(backbone, head)
    for tiles, batch, ours in zip(seen, batches, losses, strict=True):
        features = backbone(nchw(tiles.reshape(-1, *tiles.shape[2:])).double())
        features = features.reshape(BATCH, 9, 32)
        pairs = [torch.cat([features[:, 0], features[:, side]], dim=1) for side in range(1, 9)]
        logits = head(torch.stack(pairs, dim=1).reshape(BATCH * 8, 64))
        wanted = torch.tensor(batch["sides"], dtype=torch.long).reshape(-1)
        descend(optimizer, F.cross_entropy(logits, wanted), ours)
    check(first.params, last.params, last.stats, backbone, {"head": head})
