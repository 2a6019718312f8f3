"""Independent implementations to compare with: PyTorch, torchvision, timm, lightly, scikit-learn.

They come with the extra `reference`, as does selenium, which opens pages in Chromium. Tests that
need them have the marker `reference` and are skipped without them, unless
SSLJAX_REFERENCES=required, as in CI.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest

_declared: list[Any] = []


def load(name: str) -> Any:
    """Imports a reference library, or skips the tests of the calling module."""
    try:
        if name.partition(".")[0] in ("torchvision", "timm", "lightly"):
            _let_torchvision_import()
        module = importlib.import_module(name)
        if name == "torch":
            # Tests run beside each other; the networks are too small for several threads.
            module.set_num_threads(1)
        return module
    except ImportError:
        if os.environ.get("SSLJAX_REFERENCES") == "required":
            raise
        pytest.skip(f"{name} is not installed: the extra `reference`", allow_module_level=True)


def _let_torchvision_import() -> None:
    """Declares two operators that torchvision expects to find.

    The package index has torchvision built for CUDA. Beside a CPU build of PyTorch its compiled
    operators cannot be loaded. Only detection models need them, but the import fails without them.
    """
    torch = importlib.import_module("torch")
    if torch.version.cuda is None and not _declared:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                library.define(f"{name}(Tensor dets, Tensor scores, float threshold) -> Tensor")
        _declared.append(library)  # it must stay alive
