"""Files that claim more than they hold, or that are no files."""

from __future__ import annotations

import json
import os
import pathlib
import struct
import zipfile

import pytest

from ssljax import train_config, weights
from ssljax.models.torch import description, state_dict_files
from ssljax.runs import transfer
from ssljax.settings.errors import InputError
from tests import references

torch = references.load("torch")
safetensors = references.load("safetensors")
pytestmark = pytest.mark.reference
ONE = torch.ones(1)


def refused(path, said):
    with pytest.raises(InputError, match=said) as error:
        state_dict_files.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("given", "said"),
    [({"w": ONE.expand(10**12)}, "its tensors claim 1,000,000,000,000 numbers, but it has only"),
     ({str(number): ONE.expand(3000) for number in range(100)}, "its tensors claim 300,000 numb"),
     ({"w": 3}, "w is a int, not a tensor"),
     ({3: ONE}, "the key 3, which is not a name"),
     ({"\x1b[31m\n": ONE}, r"the name of a tensor is '\\x1b\[31m\\n'"),
     ({"w" * 1000: ONE}, "the name of a tensor is 'www"),
     ({"w": ONE.to_sparse()}, "w is not a dense tensor"),
     ({"w": ONE + 1j}, "w is not a dense tensor of real numbers"),
     ([ONE], "it holds a list, not a state dict")],
    ids=["one", "many", "number", "key", "escapes", "long", "sparse", "complex", "list"],
)  # fmt: skip
def test_tensors_that_claim_more_than_the_file_can_hold(tmp_path, given, said, new):
    torch.save(given, tmp_path / "w.pth", _use_new_zipfile_serialization=new)
    refused(tmp_path / "w.pth", said)


def test_tied_and_half_precision_weights_are_no_such_claim(tmp_path):
    whole = torch.randn(2000).half()
    torch.save({"a": whole, "b": whole, "c": whole[:100]}, tmp_path / "w.pth")
    tensors = state_dict_files.read(tmp_path / "w.pth")
    assert {name: len(value) for name, value in tensors.items()} == {"a": 2000, "b": 2000, "c": 100}


def test_compressed_records_are_refused(tmp_path):
    torch.save({"w": torch.zeros(10**6)}, tmp_path / "w.pth")
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as source,
        zipfile.ZipFile(tmp_path / "small.pth", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert os.path.getsize(tmp_path / "small.pth") < 20_000
    refused(tmp_path / "small.pth", "it is compressed")


def test_a_safetensors_header_that_claims_more_is_refused(tmp_path):
    entry = {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}
    header = json.dumps({"w": entry}).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)
    refused(tmp_path / "w.safetensors", "cannot be read as a state dict")
    (tmp_path / "h.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    refused(tmp_path / "h.safetensors", "cannot be read as a state dict")


@pytest.mark.parametrize("suffix", state_dict_files.SUFFIXES)
def test_what_is_no_file_is_not_read(tmp_path, suffix):
    empty, pipe = tmp_path / f"empty{suffix}", tmp_path / f"pipe{suffix}"
    device = tmp_path / f"device{suffix}"
    empty.touch()
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    refused(empty, "is empty")
    refused(tmp_path / f"none{suffix}", "no such file")
    for path in (pipe, device):
        refused(path, "is not a file")
        with pytest.raises(InputError, match="is not a file"):
            description.read(path)


def test_class_names_are_read_from_files_only(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(2**24 + 1)
    (tmp_path / "names").write_text("a\nb\n")
    (tmp_path / "latin1").write_bytes(b"\xff")
    for name, said in (
        ("pipe", "--class_names: .*pipe is not a file"), ("none", "--class_names: .*no such file"),
        ("large", "large has more than 16,777,216 bytes"), ("latin1", "--class_names: .*utf-8"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            weights._read_names(tmp_path / name)
    assert weights._read_names(pathlib.Path(tmp_path / "names")) == ("a", "b")


def test_a_pipe_in_a_run_folder_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "init.json")
    with pytest.raises(InputError, match="init.json cannot be read: it is a named pipe"):
        transfer.check_same_start(tmp_path, train_config("jigsaw"))
