"""Learning rates that fall from layer to layer, in fine-tuning."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssljax import train_config
from ssljax.models import MODELS, make_network
from ssljax.models.network import Network
from ssljax.models.paths import flatten
from ssljax.settings.errors import InputError
from ssljax.training.layer_decay import scale_by_layer

DECAY = 0.6


def factors(model, size, **options):
    """What each parameter's update is multiplied by, and the shapes of the parameters."""
    config = train_config("classification", model)
    config.model.update(options)
    config.optimizer.layer_decay = DECAY
    network = make_network(config.model, {})
    shapes = jax.eval_shape(
        lambda: network.init(jax.random.key(0), jnp.zeros((1, size, size, 3)),
                             method=Network.backbone)["params"]
    )  # fmt: skip
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)
    scaled, _ = scale_by_layer(config).update(ones, scale_by_layer(config).init(ones), ones)
    return flatten(scaled)


@pytest.mark.quick
def test_a_vision_transformer_has_the_factors_of_beit_and_mae():
    """Of their code: layer 0 is below the blocks, number `depth` + 1 above them.

    timm counts the last normalisation to the last block, so its factors are larger by one decay.
    """
    depth = 5
    found = factors("vit_tiny", 32, depth=depth, patch=8)
    expected = DECAY ** (depth + 1 - np.arange(1, depth + 1))
    for path, leaf in found.items():
        part = path.split("/")[1]
        if part == "blocks":
            np.testing.assert_allclose(leaf.reshape(depth, -1).T - expected, 0, atol=1e-6)
        else:
            number = depth + 1 if part == "norm" else 0
            np.testing.assert_allclose(leaf, DECAY ** (depth + 1 - number), rtol=1e-6)
    assert {path.split("/")[1] for path in found} == {
        "blocks", "cls_token", "norm", "patch_embed", "pos_embed",
    }  # fmt: skip


@pytest.mark.quick
@pytest.mark.parametrize(
    ("model", "size", "layers"),
    [
        ("resnet18", 32, ("conv1", "layer1_0", "layer2_1", "layer3_0", "layer4_1")),
        ("alexnet", 64, ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")),
    ],
)
def test_each_layer_has_a_smaller_factor_than_the_next(model, size, layers):
    options = {"batch_norm": True} if model == "alexnet" else {}
    found = factors(model, size, width=0.0625, **options)
    for below, layer in enumerate(layers):
        own = [leaf for path, leaf in found.items() if path.split("/")[1] == layer]
        assert own
        for leaf in own:
            np.testing.assert_allclose(leaf, DECAY ** (len(layers) - below), rtol=1e-6)
    assert all(float(leaf.max()) < 1 for leaf in found.values())  # none is forgotten


@pytest.mark.quick
def test_a_backbone_without_an_order_is_refused(monkeypatch):
    monkeypatch.setattr(MODELS["resnet18"], "layer_order", classmethod(lambda cls, options: ()))
    config = train_config("classification", "resnet18")
    with pytest.raises(InputError, match="resnet18 does not say the order of its layers"):
        scale_by_layer(config)
