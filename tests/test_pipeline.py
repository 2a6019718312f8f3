from __future__ import annotations

import jax
import numpy as np
import pytest

from ssljax.data import images, pipeline
from ssljax.data.cache import open_images
from ssljax.data.image_source import ImageSource
from ssljax.data.order import Order, record_rng
from ssljax.data.records import open_records
from ssljax.methods import make_method
from ssljax.methods.method import DataSpec
from ssljax.settings.errors import InputError
from tests import labelled_set
from tests.deep_fashion_folder import prepare_deep_fashion, write_folder

pytestmark = pytest.mark.quick

METHOD = make_method({"name": "jigsaw", "grid": 2, "tile": 16, "gap": 2}, DataSpec(32))


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Records of two shapes, wider and higher than long."""
    folder = tmp_path_factory.mktemp("deep_fashion")
    write_folder(folder / "source", images=50)
    prepare_deep_fashion("official", str(folder / "source"), str(folder / "tfds"))
    return open_records("deep_fashion/official", "train", str(folder / "tfds"))


def read(records, **options):
    settings = {
        "batch_size": 8, "epochs": 2, "seed": 1, "train": True, "random_crop": True, "threads": 2,
    }  # fmt: skip
    source = ImageSource(records, 32)
    return list(pipeline.batches(source, METHOD.draw, **{**settings, **options}))


def assert_same(left, right):
    assert len(left) == len(right)
    jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_change_nothing(records, threads):
    assert_same(read(records, threads=threads), read(records, threads=0))


@pytest.mark.parametrize("decoding", ["exact", "fast"])
@pytest.mark.parametrize(("dataset", "tile"), [("oblong", 16), ("square", 16), ("square", 14)])
def test_keeping_decoded_images_changes_nothing(
    records, data_dir, monkeypatch, dataset, tile, decoding
):
    if dataset == "square":
        records = open_records("fashion_mnist_10k", "images[:50]", data_dir)  # 28 px
    draw = make_method({"name": "jigsaw", "grid": 2, "tile": tile}, DataSpec(2 * tile)).draw
    [kept] = open_images("ram", records, size=2 * tile, decoding=decoding)
    settings = {"batch_size": 8, "epochs": 3, "seed": 1, "train": True, "random_crop": True}
    fresh = list(pipeline.batches(ImageSource(records, 2 * tile, decoding), draw, **settings))
    assert_same(list(pipeline.batches(kept, draw, **settings)), fresh)
    monkeypatch.setattr(
        type(records), "read", lambda self, indices: iter(indices[:0])
    )  # nothing is read again
    assert_same(list(pipeline.batches(kept, draw, **settings)), fresh)


def test_images_that_do_not_fit_into_memory_are_refused(records, monkeypatch):
    monkeypatch.setattr("ssljax.data.cache.available_memory", lambda: 10_000)
    with pytest.raises(InputError, match=r"data.cache: 30 .* 1e-05 GB are available"):
        open_images("ram", records, size=32, decoding="exact")
    monkeypatch.setattr("ssljax.data.cache.available_memory", lambda: 1_000_000)
    open_images("ram", records, size=32, decoding="exact")
    with pytest.raises(InputError, match=r"data.cache: 30 .* GB in 10 processes, 0.001 GB are a"):
        open_images("ram", records, size=32, decoding="exact", processes=10)


def test_any_step_can_be_the_first(records):
    assert_same(read(records, start_step=5), read(records)[5:])


def test_batches_match_a_plain_loop(records):
    batches = read(records, seed=3)
    order = Order(len(records), 8, 2, shuffle=True, seed=3)
    assert len(order) == len(batches)
    for (epoch, numbers, mask), batch in zip(order, batches, strict=True):
        np.testing.assert_array_equal(batch["mask"], mask)
        for row, record in enumerate(numbers.tolist()):
            assert batch["record"][row] == record
            rng = record_rng(3, record, epoch)
            data, label = records[record]
            image = images.square(images.decode(data), 32, rng)
            draws = METHOD.draw(rng)
            np.testing.assert_array_equal(batch["image"][row], image)
            np.testing.assert_array_equal(batch["permutation"][row], draws["permutation"])
            np.testing.assert_array_equal(batch["offsets"][row], draws["offsets"])
            assert batch["label"][row] == label


def by_record(batches):
    return {
        (int(record), index // (len(batches) // 2)): batch["permutation"][row].tolist()
        for index, batch in enumerate(batches)
        for row, record in enumerate(batch["record"])
    }


def test_training_draws_anew_each_epoch_and_evaluation_does_not(records):
    train = by_record(read(records))
    assert any(train[record, 0] != train[record, 1] for record, epoch in train if epoch)
    evaluation = by_record(read(records, train=False, random_crop=False))
    assert all(evaluation[record, 0] == evaluation[record, 1] for record, epoch in evaluation)
    other_batches = by_record(read(records, train=False, random_crop=False, batch_size=4))
    assert other_batches == evaluation


@pytest.mark.parametrize("count", [2, 4])
def test_processes_read_the_parts_of_the_same_global_batches(records, monkeypatch, count):
    alone = read(records)
    monkeypatch.setattr(jax, "process_count", lambda: count)
    parts = []
    for process in range(count):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        parts.append(read(records))
    together = [
        {key: np.concatenate([part[key] for part in step]) for key in step[0]}
        for step in zip(*parts, strict=True)
    ]
    assert_same(together, alone)


@pytest.mark.parametrize("cache", ["", "ram"])
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"no image", r"record 2 \('img/cats/3.jpg'\): its format is not one of JPEG"),
        (b"\xff\xd8\xff", r"record 2 \('img/cats/3.jpg'\): "),
        (None, "record 2 holds no image"),
    ],
)
def test_an_image_that_cannot_be_read_is_named_by_its_file(tmp_path, data, said, cache):
    names = [f"img/cats/{index + 1}.jpg" for index in range(8)]
    labelled_set.write(tmp_path, "cats", [0] * 8, files={2: data}, names=names)
    records = open_records("cats", "images", str(tmp_path))

    def read_all():
        [source] = open_images(cache, records, size=32, decoding="exact")
        list(pipeline.batches(source, METHOD.draw, batch_size=4, epochs=1, seed=0, train=False))

    with pytest.raises(InputError, match=f"cats, split images: {said}"):
        read_all()


def test_prefetch_keeps_order_and_counts_waiting():
    source = pipeline.DevicePrefetch(iter(range(7)), lambda item: item * 10, depth=3)
    assert list(source) == [0, 10, 20, 30, 40, 50, 60]
    assert source.waited > 0
