"""ssljax: self-supervised pretraining of image models in JAX and Flax.

`ssljax.load_run(folder)` loads a trained model. Config files use `ssljax.train_config` and
`ssljax.study_config`. The commands are modules, such as `python -m ssljax.train`;
`python -m ssljax` lists them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssljax.runs.config import train_config
    from ssljax.runs.trained_model import TrainedModel, load_run
    from ssljax.studies.config import arm_config, setting_config, study_config

__version__ = "0.1.0"
__all__ = [
    "TrainedModel",
    "arm_config",
    "load_run",
    "setting_config",
    "study_config",
    "train_config",
]
_MODULES = {
    "TrainedModel": "ssljax.runs.trained_model",
    "load_run": "ssljax.runs.trained_model",
    "train_config": "ssljax.runs.config",
    "arm_config": "ssljax.studies.config",
    "setting_config": "ssljax.studies.config",
    "study_config": "ssljax.studies.config",
}


if not TYPE_CHECKING:  # type checkers would take any name for one that __getattr__ knows

    def __getattr__(name: str) -> Any:
        # Imported on first use, so that a command's --help does not wait for jax.
        if name not in _MODULES:
            raise AttributeError(f"module 'ssljax' has no attribute {name!r}")
        return getattr(importlib.import_module(_MODULES[name]), name)
