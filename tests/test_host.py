"""A library changes nothing in the program that uses it."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.conftest import REPOSITORY
from tests.kills import ENVIRONMENT

SCRIPT = """
import json, logging, os, signal, sys

def mine(number, frame):
    os.write(1, b"mine")
signal.signal(signal.SIGTERM, mine)
logging.getLogger("absl").setLevel(logging.INFO)
logging.getLogger("asyncio").setLevel(logging.DEBUG)

def settings():
    return {
        "signals": {s.name: str(signal.getsignal(s)) for s in signal.valid_signals()
                    if isinstance(s, signal.Signals)},
        "levels": {n: logging.getLogger(n).level for n in ("", "absl", "asyncio", "gcsfs", "jax")},
        "handlers": [str(handler) for handler in logging.getLogger().handlers],
        "hooks": [str(sys.excepthook), str(sys.unraisablehook), str(sys.breakpointhook)],
        "folder": os.getcwd(),
    }

import jax, orbax.checkpoint, tensorflow_datasets, grain
before = settings()
import ssljax
from ssljax.evaluate import evaluate
from ssljax.settings import config_files
from ssljax.training.loop import train
config = config_files.load("tests/tiny.py:classification,small_net")
config.data.data_dir, config.epochs = sys.argv[2], 1
train(config, sys.argv[1])
evaluate(sys.argv[1])
ssljax.load_run(sys.argv[1])
after = settings()
print(json.dumps([before, after]))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_training_and_loading_leave_signals_and_loggers_as_they_were(data_dir, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "run"), data_dir],
        cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    before, after = json.loads(done.stdout.splitlines()[-2])
    assert after == before
    assert done.stdout.endswith("mine")
