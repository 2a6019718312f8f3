"""ssljax: self-supervised pretraining of image models in JAX and Flax.

The functions `prepare`, `train`, `evaluate`, `probe`, `study` and `features` do what the commands
of these names do, and `load_run` loads a trained model. `export_weights` and `import_weights` hand
weights over to other libraries and back. `load_config` reads a config file; config files themselves
use `train_config` and `study_config`. The commands are modules, such as `python -m ssljax.train`;
`python -m ssljax` lists them.

Importing ssljax imports nothing else and changes nothing in the process.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssljax.evaluate import evaluate
    from ssljax.features import features, write_features
    from ssljax.prepare import prepare
    from ssljax.probe import probe
    from ssljax.runs.config import train_config
    from ssljax.runs.config_flags import load_config
    from ssljax.runs.imported_weights import import_weights
    from ssljax.runs.trained_model import TrainedModel, load_run
    from ssljax.studies.config import arm_config, setting_config, study_config
    from ssljax.study import study
    from ssljax.train import train
    from ssljax.weights import export_weights

__version__ = "0.1.0"
__all__ = [
    "TrainedModel",
    "arm_config",
    "evaluate",
    "export_weights",
    "features",
    "import_weights",
    "load_config",
    "load_run",
    "prepare",
    "probe",
    "setting_config",
    "study",
    "study_config",
    "train",
    "train_config",
    "write_features",
]
_MODULES = {
    "TrainedModel": "ssljax.runs.trained_model",
    "arm_config": "ssljax.studies.config",
    "evaluate": "ssljax.evaluate",
    "export_weights": "ssljax.weights",
    "features": "ssljax.features",
    "import_weights": "ssljax.runs.imported_weights",
    "load_config": "ssljax.runs.config_flags",
    "load_run": "ssljax.runs.trained_model",
    "prepare": "ssljax.prepare",
    "probe": "ssljax.probe",
    "setting_config": "ssljax.studies.config",
    "study": "ssljax.study",
    "study_config": "ssljax.studies.config",
    "train": "ssljax.train",
    "train_config": "ssljax.runs.config",
    "write_features": "ssljax.features",
}


class _Package(types.ModuleType):
    """Keeps `ssljax.train` a function when the module `ssljax.train` has been imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _MODULES and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

if not TYPE_CHECKING:  # type checkers would take any name for one that __getattr__ knows

    def __getattr__(name: str) -> Any:
        # Imported on first use, so that a command's --help does not wait for jax.
        if name not in _MODULES:
            raise AttributeError(f"module 'ssljax' has no attribute {name!r}")
        return getattr(importlib.import_module(_MODULES[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
