"""What is known of some data sets, for model cards."""

from __future__ import annotations

import dataclasses

_MIT = "[MIT](https://github.com/zalandoresearch/fashion-mnist/blob/master/LICENSE), Zalando SE"
_FASHION_MNIST = "zalando-datasets/fashion_mnist"


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set.

    Attributes:
      licence: of the images, in Markdown.
      on_the_hub: its name on the Hugging Face Hub, or TFDS's name without config and version.
    """

    licence: str
    on_the_hub: str


_DATA_SETS = {
    "fashion_mnist_10k": DataSet(_MIT, _FASHION_MNIST),
    "fashion_mnist": DataSet(_MIT, _FASHION_MNIST),
    "deep_fashion": DataSet(
        "for research only; the images are available on request", "deep_fashion"
    ),
}


def known(dataset: str) -> DataSet:
    """What is known of a data set.

    Args:
      dataset: TFDS's name, also with config and version.
    """
    base = dataset.split("/")[0].split(":")[0]
    return _DATA_SETS.get(base, DataSet("not known; ask those who made it", base))
