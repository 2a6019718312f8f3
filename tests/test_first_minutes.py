"""A newcomer's first ten minutes: README's lines in a shell, what they name next, and mistakes.

Only the length of training differs: flags are added to the lines that train. To save time, the last
chapter is typed in a second shell, at the same time.
"""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import re
import shutil
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.kills import ENVIRONMENT
from tests.shell import CTRL_C, Shell

FIRST, SECOND = ("Quick start", "Train, continue, evaluate"), ("Methods",)
TINY = {
    "epochs": "1", "batch_size": "8", "model.width": "0.0625", "data.train_split": "images[:128]",
    "data.validation_split": "images[128:192]", "data.test_split": "images[192:256]",
    "probes.map_images": "0",
}  # fmt: skip


@pytest.fixture(scope="module")
def open_shell(tmp_path_factory):
    """Opens shells in a folder like a clone, where the installation has been done already."""
    home = tmp_path_factory.mktemp("home")
    clone = home / "ssljax"
    (clone / ".venv/bin").mkdir(parents=True)
    for name in ("configs", "docs"):
        (clone / name).symlink_to(REPOSITORY / name)
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    (clone / ".venv/bin/activate").write_text(f'export PATH="{path}"\n')
    environment = {**ENVIRONMENT, "HOME": str(home), "TERM": "xterm"}
    shells = []

    def open_shell() -> Shell:
        shell = Shell(clone, environment)
        shells.append(shell)
        shell.type("python3() { echo no virtual environment is made; }; pip() { echo $1; }")
        return shell

    yield open_shell
    for shell in shells:
        shell.close()


@pytest.fixture(scope="module")
def shell(open_shell):
    return open_shell()


def shortened(line: str) -> str:
    """Adds flags to a line so that it trains for seconds."""
    if ".study" in line:
        prefixes = ["classification.", "pretexts.jigsaw."]
    elif ".train" in line:
        prefixes = [""]
    else:
        return line
    flags = [
        f"'--config.{prefix}{key}={value}'" for prefix in prefixes for key, value in TINY.items()
    ]
    return " ".join([line, *flags])


def lines_of_the_readme(names: tuple[str, ...]) -> list[str]:
    text = (REPOSITORY / "README.md").read_text()
    chapters = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    blocks = "".join(
        block for name in names for block in re.findall(r"```\n(.*?)```", chapters[name], re.S)
    )
    lines = blocks.replace("\\\n", " ").splitlines()
    return [line for line in lines if "pytest" not in line]


def type_lines(shell: Shell, lines: list[str]) -> dict[str, str]:
    """What each line printed."""
    outputs = {}
    for line in lines:
        code, outputs[line] = shell.type(shortened(line))
        assert code == 0, f"{line}\n{outputs[line]}"
        assert "Traceback" not in outputs[line]
    return outputs


@pytest.fixture(scope="module")
def outputs(shell, open_shell):
    """What each line of the README printed."""
    activated = [". .venv/bin/activate", *lines_of_the_readme(SECOND)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        second = pool.submit(type_lines, open_shell(), activated)
        first = type_lines(shell, lines_of_the_readme(FIRST))
        return first | second.result()


def test_the_readmes_lines_work_in_one_shell(outputs):
    assert len(outputs) > 8
    for line, output in outputs.items():
        if ".predict" in line:
            assert re.match(r"docs/images/ankle_boot.png: [\w/ -]+ [\d.]+%  ", output)
        if ".study" in line:
            assert output.count("── runs/quickstart/seed-0/arm-jigsaw\n") == 1
        if ".evaluate" in line:
            assert re.search(r"(?m)^loss +\d\.\d{4}", output)


def test_the_next_steps_that_are_named_work(open_shell, outputs):
    named = re.findall(r"(?m)^  (python -m ssljax\.(\w+).*?)\s*$", "\n".join(outputs.values()))
    steps: dict[str, str] = {}
    for line, command in named:
        if line not in outputs:
            steps.setdefault(command, line.replace("IMAGE_OR_FOLDER...", "docs/images"))
    assert set(steps) == {"evaluate", "probe", "train", "predict"}
    activated = [[". .venv/bin/activate", line] for line in steps.values()]
    shells = [open_shell() for _ in activated]
    with concurrent.futures.ThreadPoolExecutor() as pool:  # to save time
        list(pool.map(type_lines, shells, activated))


def test_a_folder_with_a_bad_image(shell, outputs):
    home = pathlib.Path(shell.type("cd ~ && pwd && cd - > /dev/null")[1].strip())
    (home / "photographs").mkdir()
    shutil.copy(REPOSITORY / "docs/images/ankle_boot.png", home / "photographs")
    (home / "photographs/bad.jpg").write_bytes(b"no image")
    code, output = shell.type(
        "python -m ssljax.predict --workdir=~/ssljax/runs/labels --top=1 '~/photographs'"
    )
    assert code == 2
    assert "ankle_boot.png: " in output
    assert "bad.jpg cannot be read as an image" in output
    assert "Traceback" not in output


def test_ctrl_c_at_three_moments_and_the_same_command_goes_on(shell, outputs):
    code, _ = shell.type("cp -r configs/. ~/my_configs")
    assert code == 0
    train = (
        "python -m ssljax.train --config=~/my_configs/pretrain.py:method=classification "
        "--workdir=~/stopped --config.data.data_dir=~/data --config.init_from=~/ssljax/runs/jigsaw "
        "--config.model.width=0.0625 '--config.data.train_split=images[:800]' --config.epochs=1 "
        "'--config.data.validation_split=images[800:900]' "
        "--config.batch_size=8 --config.log_every_steps=5"
    )
    evaluate = "python -m ssljax.evaluate --workdir=~/stopped '--split=images' --data_dir=~/data"
    interrupt(shell, train, "compiling", "interrupted")
    interrupt(shell, train, r"epoch 1/1  step \d", "a checkpoint was saved at step")
    code, output = shell.type(train)
    assert code == 0, output
    assert "continues after step" in output
    interrupt(shell, evaluate, "evaluating the", "interrupted")
    assert shell.type("ls -d '~'")[0] != 0


def interrupt(shell: Shell, command: str, moment: str, said: str) -> None:
    """Types Ctrl-C when a command has printed `moment`."""
    shell.send(f"{command}\n")
    output = shell.wait_for(rf"{moment}|<exit")
    assert "<exit" not in output, output
    shell.send(CTRL_C)
    code, output = shell.prompt()
    assert code == 130, output
    assert said in output
    assert "Traceback" not in output
