"""How training ends early: messages that name the checkpoint to continue from."""

from __future__ import annotations

import contextlib
import pathlib
import sys
from collections.abc import Iterator

import jax

from ssljax.devices import processes
from ssljax.runs.checkpoints import Checkpoints
from ssljax.settings.errors import Diverged, Interrupted, ProcessLost, TrainingFailed


def interrupted(number: int, step: int) -> Interrupted:
    """The ending after a signal, once the checkpoint of a step is saved."""
    ending = Interrupted(
        number,
        f"interrupted; a checkpoint was saved at step {step}, and the same command continues from "
        "there",
    )
    ending.shared = True
    return ending


@contextlib.contextmanager
def endings(folder: pathlib.Path, checkpoints: Checkpoints) -> Iterator[None]:
    """Turns errors of training into endings that name the checkpoint to continue from."""
    try:
        yield
    except Diverged as error:
        checkpoints.wait()
        ending = Diverged(
            f"{error}; {checkpoints.last_good()}. Try a lower optimizer.learning_rate"
        )
        ending.shared = True
        raise ending from error
    except OSError as error:
        with contextlib.suppress(TrainingFailed):
            checkpoints.wait()
        raise TrainingFailed(
            f"{error.filename or folder}: {error.strerror or error}; {checkpoints.last_good()}"
        ) from error
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if not processes.lost(error):
            raise
        raise checkpoints.process_lost(error) from error
    finally:
        # Closing would wait for the others, or for the checkpoint.
        if not isinstance(sys.exception(), ProcessLost | KeyboardInterrupt):
            checkpoints.close()
