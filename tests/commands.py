"""Commands as processes of their own that start at once.

A process that has imported ssljax, but has not used jax, waits and forks itself for each command.
The imports take longer than what most tests let a command do. Tests of how a process starts or ends
use `python -m` instead.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import traceback
from typing import Any, NoReturn

from tests.kills import ENVIRONMENT

REPOSITORY = pathlib.Path(__file__).parent.parent
IMPORTS = (
    "ssljax.training.loop", "ssljax.report.run_page", "ssljax.report.what_features_see",
    "ssljax.runs.trained_model", "ssljax.study", "ssljax.compile", "ssljax.prepare",
)  # fmt: skip


def run(
    module: str,
    *arguments: str,
    code: int = 0,
    cwd: os.PathLike[str] = REPOSITORY,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """Runs `python -m ssljax.MODULE` with the environment of `tests.kills`.

    Args:
      code: the exit code that is expected.
      cwd: the working folder; modules are also found in the repository.
      variables: of the environment. jax has read its own already, so they cannot be among them.
    """
    assert not any(name.startswith("JAX_") for name in variables)
    with tempfile.TemporaryDirectory() as scratch:
        outputs = [pathlib.Path(scratch, name) for name in ("stdout", "stderr")]
        server = _server()
        request = {"module": module, "arguments": arguments, "cwd": os.fspath(cwd),
                   "environment": variables, "outputs": list(map(str, outputs))}  # fmt: skip
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        done = subprocess.CompletedProcess(
            [module, *arguments], int(server.stdout.readline()), *(p.read_text() for p in outputs)
        )
    assert done.returncode == code, done.stderr
    if code:
        assert "Traceback" not in done.stderr
    return done


@functools.cache
def _server() -> subprocess.Popen[str]:
    # Its standard input closes with the tests' process, which ends it.
    return subprocess.Popen(
        [sys.executable, "-m", "tests.commands"], cwd=REPOSITORY, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**ENVIRONMENT, "OPENBLAS_NUM_THREADS": "1"},  # threads do not survive a fork
    )  # fmt: skip


def serve() -> None:
    """Forks for each line of standard input, and answers with the exit code."""
    for name in IMPORTS:
        importlib.import_module(name)
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(request: dict[str, Any]) -> NoReturn:
    for number, path in enumerate((os.devnull, *request["outputs"])):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.chdir(request["cwd"])
    os.environ.update(request["environment"])
    sys.path[0:0] = [request["cwd"]]
    module = f"ssljax.{request['module']}"
    sys.argv = [module, *request["arguments"]]
    code: Any = 1
    try:
        importlib.import_module(module).cli()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
