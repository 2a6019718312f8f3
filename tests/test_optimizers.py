"""60 steps of each optimiser against PyTorch's, or against the authors' formula."""

from __future__ import annotations

import jax
import numpy as np
import optax
import pytest

from ssljax import train_config
from ssljax.training.optimizers import make_optimizer
from ssljax.training.schedules import learning_rate
from tests import references

pytestmark = pytest.mark.quick
RNG = np.random.default_rng(0)
START = {"w": RNG.normal(size=(6, 3)), "b": RNG.normal(size=3)}
INPUTS, TARGETS = RNG.normal(size=(20, 6)), RNG.normal(size=(20, 3))
STEPS_PER_EPOCH = 6


def make_config(**settings):
    """Ten epochs with a cosine after two epochs of warm-up."""
    config = train_config()
    config.epochs = 10
    config.schedule.name, config.schedule.warmup_epochs = "cosine", 2
    config.optimizer.learning_rate, config.optimizer.weight_decay = 0.05, 0.02
    config.optimizer.update(settings)
    return config


def loss(params):
    return ((INPUTS @ params["w"] + params["b"] - TARGETS) ** 2).mean()


def trained(config):
    """The parameters after every one of 60 steps."""
    with jax.enable_x64(True):
        optimizer = make_optimizer(config, STEPS_PER_EPOCH)
        params = jax.tree.map(jax.numpy.asarray, START)
        state, found = optimizer.init(params), []

        @jax.jit
        def step(params, state):
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return optax.apply_updates(params, updates), state

        for _ in range(60):
            params, state = step(params, state)
            found.append(jax.device_get(params))
    return found


@pytest.mark.reference
@pytest.mark.parametrize(
    "settings",
    [
        {"name": "adamw"},
        {"name": "adamw", "decay_biases_and_norms": False, "clip_norm": 0.5},
        {"name": "sgd", "momentum": 0.9},
        {"name": "sgd", "momentum": 0.9, "nesterov": True, "clip_norm": 0.5},
        {"name": "adam", "clip_norm": 0.1},
    ],
    ids=str,
)
def test_sixty_steps_equal_pytorchs(settings):
    torch = references.load("torch")
    config = make_config(**settings)
    params = {name: torch.nn.Parameter(torch.from_numpy(v.copy())) for name, v in START.items()}
    decay = 0.02 * config.optimizer.decay_biases_and_norms
    groups = [
        {"params": [params["w"]], "weight_decay": 0.02},
        {"params": [params["b"]], "weight_decay": decay},
    ]
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    momentum = {key: settings[key] for key in ("momentum", "nesterov") if key in settings}
    optimizer = kinds[settings["name"]](groups, lr=0.05, **momentum)
    rate = learning_rate(config, STEPS_PER_EPOCH)
    inputs, targets = torch.from_numpy(INPUTS), torch.from_numpy(TARGETS)
    for index, ours in enumerate(trained(config)):
        for group in optimizer.param_groups:
            group["lr"] = float(rate(index))
        optimizer.zero_grad()
        ((inputs @ params["w"] + params["b"] - targets) ** 2).mean().backward()
        if "clip_norm" in settings:
            norm = torch.nn.utils.clip_grad_norm_(params.values(), settings["clip_norm"])
            assert index > 0 or norm > settings["clip_norm"]
        optimizer.step()
        for name, value in ours.items():
            # PyTorch's clipping adds 1e-6 to the norm.
            np.testing.assert_allclose(value, params[name].detach().numpy(), rtol=2e-5, atol=2e-6)


def test_sixty_steps_of_lars_equal_the_formula():
    """optimizer.lars of SimCLR's authors: decay in the norm, learning rate in the momentum."""
    config = make_config(name="lars", momentum=0.9, decay_biases_and_norms=False, learning_rate=5.0)
    rate = learning_rate(config, STEPS_PER_EPOCH)
    w, b = START["w"].copy(), START["b"].copy()
    momentum_w, momentum_b = np.zeros_like(w), np.zeros_like(b)
    for index, ours in enumerate(trained(config)):
        residual = 2 * (INPUTS @ w + b - TARGETS) / TARGETS.size
        update = INPUTS.T @ residual + 0.02 * w
        trust = 1e-3 * np.linalg.norm(w) / np.linalg.norm(update)
        momentum_w = 0.9 * momentum_w + float(rate(index)) * trust * update
        momentum_b = 0.9 * momentum_b + float(rate(index)) * residual.sum(axis=0)
        w, b = w - momentum_w, b - momentum_b
        np.testing.assert_allclose(ours["w"], w, rtol=1e-5)
        np.testing.assert_allclose(ours["b"], b, rtol=1e-5)
