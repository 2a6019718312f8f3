"""The resolved value of every setting of every config, kept beside the tests.

`python -m tests.golden` writes them anew; what changed is then seen in the diff.
"""

from __future__ import annotations

import json
import pathlib

from ssljax import config_files

REPOSITORY = pathlib.Path(__file__).parent.parent
FOLDER = REPOSITORY / "tests" / "golden"
CONFIGS = [
    "jigsaw.py:2x2", "jigsaw.py:3x3", "classification.py", "study.py", "quickstart.py",
    "fashion_mnist.py", "fashion_mnist.py:few_labels", "large_batch.py:64", "large_batch.py:1024",
    "large_batch.py:1024_unscaled",
]  # fmt: skip


def path(name: str) -> pathlib.Path:
    """The golden file of a config."""
    return FOLDER / (name.replace(".py", "").replace(":", "-") + ".json")


def resolved(name: str) -> str:
    """A config as JSON."""
    config = config_files.load(f"{REPOSITORY}/configs/{name}")
    return json.dumps(json.loads(config.to_json()), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for config_name in CONFIGS:
        path(config_name).write_text(resolved(config_name))
