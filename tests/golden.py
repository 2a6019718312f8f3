"""What every config sets that is not a default, kept with the tests.

`python -m tests.golden` writes them anew; the diff then shows what has changed.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import tempfile
from typing import Any

from ml_collections import ConfigDict

from ssljax import arm_config, study_config, train_config
from ssljax.settings import config_files
from ssljax.settings.options import flatten

REPOSITORY = pathlib.Path(__file__).parent.parent
FOLDER = REPOSITORY / "tests" / "golden"
PRETRAIN = [
    f"pretrain.py:method={method},data={data}"
    for method, data in itertools.product(
        ("jigsaw", "rotation", "simclr", "classification"),
        ("fashion_mnist_10k", "fashion_mnist", "deep_fashion"),
    )
] + [
    "pretrain.py:method=classification,model=resnet50,data=deep_fashion",
    "pretrain.py:method=jigsaw,model=resnet18",
    "pretrain.py:method=simclr,model=resnet18",
    "pretrain.py:method=jigsaw_permutations",
    "pretrain.py:method=relative_patch,model=resnet50,data=deep_fashion",
]
STEPPED = [  # a test takes one step of each
    "jigsaw.py:2x2", "jigsaw.py:3x3", "classification.py", "study.py",
    "study.py:pretext=simclr", "study.py:pretext=simclr,model=resnet50", "quickstart.py",
    "fashion_mnist.py", "fashion_mnist.py:few_labels", "large_batch.py:64", "large_batch.py:1024",
    "large_batch.py:1024_unscaled", "jigsaw_permutations.py", *PRETRAIN,
]  # fmt: skip
CONFIGS = STEPPED + [
    "methods.py", "methods.py:settings", "methods.py:table", "methods.py:suspects",
    "methods.py:resnet10", "methods.py:alexnet", "methods.py:vit",
] + [
    f"evaluate.py:protocol={protocol},model=resnet18" for protocol in ("linear", "finetune")
] + [
    "evaluate.py:protocol=finetune,model=vit_small",
] + [
    f"pretrain.py:method={method},{rest}"
    for method in (
        "moco", "moco_v2", "byol", "simsiam", "barlow_twins", "vicreg", "swav", "dino",
    )
    for rest in ("model=resnet18", "model=resnet50,data=deep_fashion")
] + [
    "pretrain.py:method=rotation,model=resnet50,data=deep_fashion",
    "pretrain.py:method=jigsaw_permutations,data=deep_fashion",
    "pretrain.py:method=jigsaw_permutations,model=resnet50,data=deep_fashion",
    "pretrain.py:method=relative_patch,model=resnet18",
    "pretrain.py:method=relative_patch,data=deep_fashion",
] + [
    f"pretrain.py:{choice}"
    for choice in (
        "method=mae", "method=mae,model=vit_small", "method=mae,model=vit_base,data=deep_fashion",
        "method=ijepa", "method=ijepa,model=vit_base,data=deep_fashion",
        "method=ibot", "method=ibot,model=vit_small,data=deep_fashion",
        "method=dino,model=vit_tiny", "method=dino,model=vit_small,data=deep_fashion",
        "method=moco,model=vit_tiny", "method=moco,model=vit_small,data=deep_fashion",
        "method=jigsaw,model=vit_tiny", "method=classification,model=vit_small,data=deep_fashion",
    )
]  # fmt: skip


def path(name: str) -> pathlib.Path:
    """The golden file of a config."""
    return FOLDER / (name.replace(".py", "").replace(":", "-").replace("=", "_") + ".json")


def changed(config: ConfigDict, defaults: ConfigDict) -> dict[str, Any]:
    """The settings that differ."""
    before = dict(flatten(json.loads(defaults.to_json())))
    after = dict(flatten(json.loads(config.to_json())))
    assert set(before) <= set(after)
    return {key: value for key, value in after.items() if before.get(key) != value}


def run(config: ConfigDict) -> dict[str, Any]:
    """What a training config sets, and its method and model."""
    method, model = config.method.name, config.model.name
    defaults = train_config(method, model)
    return {"method": method, "model": model, **changed(config, defaults)}


def differences(name: str) -> str:
    """What a config sets, as JSON."""
    config = config_files.load(f"{REPOSITORY}/configs/{name}")
    if "arms" not in config:
        return _text(run(config))
    found: dict[str, Any] = {
        "pretexts": {key: run(value) for key, value in config.pretexts.items()},
        "classification": run(config.classification),
        "arms": {key: changed(value, arm_config()) for key, value in config.arms.items()},
    }
    own = ConfigDict({key: value for key, value in config.items() if key not in found})
    rest = ConfigDict({key: study_config()[key] for key in own})
    return _text({**changed(own, rest), **found})


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


RUNS = ("jigsaw", "classification")


def run_path(method: str) -> pathlib.Path:
    """The golden losses of a method."""
    return FOLDER / "losses" / f"{method}.json"


def losses(method: str, data_dir: str) -> list[float]:
    """The losses of eight steps of AlexNet with Adam, the last one of an epoch among them."""
    import jax

    from ssljax.data import pipeline
    from ssljax.runs.config import resolve
    from ssljax.runs.run import open_run
    from ssljax.training.run_step import make_run_step

    config = config_files.load(f"{REPOSITORY}/tests/tiny.py:{method}")
    config.data.data_dir, config.model.dropout = data_dir, 0.0
    run = open_run(resolve(config))
    run_step = make_run_step(run, steps_per_epoch=7, devices=jax.devices()[:1])
    state = run_step.new_state()
    batches = pipeline.batches(
        run.images(config.data.train_split), run.method.draw, batch_size=config.batch_size,
        epochs=2, seed=0, train=True, random_crop=True,
    )  # fmt: skip
    found = []
    for _, batch in zip(range(8), batches, strict=False):
        state, sums = run_step.train_step(state, run_step.parallelism.put(batch))
        found.append(float(sums["loss"][0] / sums["loss"][1]))
    return found


if __name__ == "__main__":
    for old in FOLDER.glob("*.json"):
        old.unlink()
    for config_name in CONFIGS:
        path(config_name).write_text(differences(config_name))
    (FOLDER / "losses").mkdir(exist_ok=True)
    for name in RUNS:
        with tempfile.TemporaryDirectory() as scratch:
            run_path(name).write_text(json.dumps(losses(name, scratch), indent=1) + "\n")
