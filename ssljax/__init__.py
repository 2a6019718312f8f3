"""ssljax: self-supervised image models in JAX and Flax, and whether they help.

`ssljax.load_run(folder)` gives a trained model to predict with; the commands are modules of their
own, such as `python -m ssljax.train`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssljax.trained_model import TrainedModel, load_run

__version__ = "0.1.0"
__all__ = ["TrainedModel", "load_run"]


def __getattr__(name: str) -> Any:
    # Only on use, so that a command's --help need not wait for jax.
    if name in __all__:
        from ssljax import trained_model

        return getattr(trained_model, name)
    raise AttributeError(f"module 'ssljax' has no attribute {name!r}")
