"""Notices a test on images that were trained on, also in another data set."""

from __future__ import annotations

import os

import numpy as np
from ml_collections import ConfigDict

from ssljax.data.records import Records, open_records
from ssljax.devices import processes
from ssljax.files import storage
from ssljax.runs.folder import read_config
from ssljax.settings.errors import InputError
from ssljax.settings.messages import say

_SHARE = 0.01  # of the test images; data sets often have a few copies in both of their splits
_LONGEST_LINEAGE = 20  # runs, each started from the next one
_SMALL = 2**28  # bytes of records whose digests are computed if they are not kept


def check_apart(
    trained: ConfigDict, tested: ConfigDict, why: str = "which the weights were trained on"
) -> str:
    """Refuses to test on images that weights were trained on; says so of a few copies.

    Images are compared by their digests. Nothing is compared if a data set is not here, or if it is
    large and was not prepared by `python -m ssljax.prepare`, which keeps the digests; the latter is
    said, too.

    Args:
      trained: the config of the run that trained the weights.
      tested: the config of a run that starts from them, or that they are evaluated with.
      why: what the images must not be among, for the message.

    Returns:
      What was said; empty if there are no copies.

    Raises:
      InputError: more than 1 % of the test images were trained on.
    """
    try:
        ours = _open(tested, tested.data.test_split)
        theirs = _open(trained, trained.data.train_split)
    except InputError:
        return ""  # whoever needs the data says what is wrong with them
    if not all(records.has_digests() or _is_small(records) for records in (ours, theirs)):
        return _said(
            f"it is not checked whether images of {ours.name} are also in {theirs.name}, {why}: "
            "only `python -m ssljax.prepare` keeps what is compared"
        )
    seen = np.isin(ours.digests(), theirs.digests())
    if not seen.any():
        return ""
    text = f"{seen.sum():,} of {len(seen):,} images of {ours.name} are also in {theirs.name}"
    if seen.mean() > _SHARE:
        raise InputError(f"data.test_split: {text}, {why}; test on other images")
    return _said(f"{text}, {why}")


def check_lineage_apart(trained: ConfigDict, tested: ConfigDict) -> None:
    """`check_apart` for a run, and for the runs that its weights came from.

    It is said if a run's folder is not where `init_from` names it any more.
    """
    for _ in range(_LONGEST_LINEAGE):
        check_apart(trained, tested)
        try:
            if not trained.init_from:
                return
            path = storage.path(trained.init_from, "init_from")
            if not path.exists():
                _said(
                    f"it is not checked whether test images are among those that {path} was "
                    "trained on, which the weights came from: it is not there any more"
                )
            if not path.is_dir():
                return
            trained = read_config(path)
        except InputError:
            return


def _said(text: str) -> str:
    if processes.is_first():
        say(text)
    return text


def _open(config: ConfigDict, split: str) -> Records:
    data = config.data
    # A run folder may come from a stranger, so nothing is written to the folder that it names.
    return open_records(
        data.dataset, split, data.data_dir, data.image_key, data.label_key, write=False
    )


def _is_small(records: Records) -> bool:
    files = {part.filename for part in records.source.parts}
    if any(storage.is_remote(file) for file in files):
        return False
    return sum(os.path.getsize(file) for file in files) <= _SMALL
