"""Divides the images of an index among splits, and finds copies that are in two of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ssljax.data.sets.index import Index
from ssljax.data.sets.source import split_name
from ssljax.settings.errors import InputError

_NAMED = 5  # pairs of copies that are named


def parse(text: str) -> dict[str, float]:
    """The share of each split, from `train:90,validation:5,test:5`.

    Raises:
      InputError: another form, a name twice, or shares that are not > 0.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.partition(":")
        try:
            shares[split_name(name)] = float(share)
        except (ValueError, InputError):
            shares.clear()
            break
    if len(shares) != text.count(",") + 1 or not all(0 < share < 1e9 for share in shares.values()):
        raise InputError(
            f"--splits must be NAME:SHARE[,NAME:SHARE…], such as train:90,validation:5,test:5, "
            f"got {text!r}"
        )
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def make(index: Index, shares: Mapping[str, float], seed: int) -> None:
    """Gives every image a split: at random, stratified by label, copies in the same one.

    The classes follow each other, and each group of copies goes to the split that lacks the most
    images, so that the shares hold in each class and in total up to one group.

    Args:
      index: its rows get their splits.
      shares: of each split; they add up to 1.
      seed: of the order within a class, which else depends on the images' content only.
    """
    index.database.create_function("mixed", 1, lambda value: _mixed(value, seed))
    index.database.execute("drop table if exists groups")
    index.database.execute(
        "create table groups as select digest, min(ifnull(label, '')) as label, count(*) as size "
        "from images where fault is null group by digest"
    )
    index.database.execute("create table chosen (digest integer primary key, split text)")
    filled = dict.fromkeys(shares, 0.0)
    total = 0
    rows = index.database.execute(
        "select digest, size from groups order by label, mixed(digest), digest"
    )
    index.database.execute("begin")
    for digest, size in rows:
        total += size
        split = max(shares, key=lambda name: shares[name] * total - filled[name])
        filled[split] += size
        index.database.execute("insert into chosen values (?, ?)", (digest, split))
    index.database.execute(
        "update images set split = (select split from chosen where chosen.digest = images.digest) "
        "where fault is null"
    )
    index.database.execute("commit")


@dataclasses.dataclass(frozen=True)
class Leaks:
    """Images with a copy in another split, where one of the splits is evaluated.

    Attributes:
      copies: how many images of a training side have a copy on a side that is evaluated.
      examples: pairs of (split, name), some of them.
    """

    copies: int
    examples: list[tuple[tuple[str, str], tuple[str, str]]]


def find_leaks(index: Index) -> Leaks:
    """Finds copies in two splits; call it before anything is dropped."""
    _rank_splits(index)
    copies = index.count(f"fault is null and {_LEAKS}")
    pairs = index.database.execute(
        "select images.split, images.name, other.split, other.name from images, images as other, "
        "ranks on images.split = ranks.split, ranks as others on other.split = others.split "
        "where images.digest = other.digest and images.fault is null and other.fault is null "
        f"and others.rank > ranks.rank order by images.name, other.name limit {_NAMED}"
    )
    return Leaks(copies, [((a, b), (c, d)) for a, b, c, d in pairs])


def drop_leaks(index: Index) -> None:
    """Marks the copies of `find_leaks` on the training side as not usable."""
    index.database.execute(
        f"update images set fault = 'has a copy that is evaluated' where fault is null and {_LEAKS}"
    )


# A row whose content is also in a split that is more of an evaluation: test, validation, others.
_LEAKS = """exists (
  select 1 from images as other
  join ranks as others on other.split = others.split
  join ranks on ranks.split = images.split
  where other.digest = images.digest and other.fault is null and others.rank > ranks.rank)"""


def _rank_splits(index: Index) -> None:
    index.database.execute("drop table if exists ranks")
    index.database.execute("create table ranks (split text primary key, rank integer)")
    for name in index.splits():
        rank = 2 if "test" in name else 1 if "val" in name else 0
        index.database.execute("insert into ranks values (?, ?)", (name, rank))


def _mixed(value: int, seed: int) -> int:
    """SplitMix64's finaliser: another random order for each seed."""
    mask = 2**64 - 1
    value = (value + 0x9E3779B97F4A7C15 * (seed + 1)) & mask
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & mask
    return (value ^ value >> 31) - 2**63
