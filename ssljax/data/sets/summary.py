"""What was found in a source, for people."""

from __future__ import annotations

from collections.abc import Sequence

from ssljax.data.sets.index import Index
from ssljax.settings.printable import shortened

_NAMED = 20  # classes that are named with their counts
_USUAL_SIDE = 512  # pixels; enough for random crops at the usual 224

_SIZES = """
select count(*), sum(bytes), min(min(width, height)), max(max(width, height)), sum(width * height),
  sum(side > :limit), sum(width * height * (1 - min(1, :limit / side * :limit / side)))
from (select *, 1.0 * max(width, height) as side from images where fault is null)"""


def describe(index: Index, class_names: Sequence[str], made: bool, max_side: int) -> list[str]:
    """Lines: splits, classes with counts, labels and sizes of the usable images.

    Args:
      index: after its images were divided among splits.
      class_names: empty if the source has no labels.
      made: whether the splits were made, or given by the source.
      max_side: to which larger images are scaled; 0 if none are.
    """
    good = "fault is null"
    rows = index.database.execute(
        f"select split, count(*), count(label) from images where {good} group by split"
    )
    lines = ["splits " + ("made at random, stratified by class:" if made else "of the source:")]
    for split, count, labelled in rows:
        without = f", {count - labelled:,} without a label" if 0 < labelled < count else ""
        lines.append(f"  {split:20} {count:>11,} images{without}")
    lines += _classes(index, class_names) if class_names else ["no labels"]
    copies = index.count(good) - index.database.execute(
        f"select count(distinct digest) from images where {good}"
    ).fetchone()[0]  # fmt: skip
    if copies:
        contradicting = index.database.execute(
            f"select count(*) from (select 1 from images where {good} group by digest "
            "having count(distinct label) > 1)"
        ).fetchone()[0]
        note = f"; {contradicting:,} images are in several classes" if contradicting else ""
        lines.append(f"{copies:,} images are copies of others{note}")
    return [*lines, *_sizes(index, max_side)]


def _classes(index: Index, class_names: Sequence[str]) -> list[str]:
    counts = dict(
        index.database.execute(
            "select label, count(*) from images where fault is null and label is not null "
            "group by label"
        )
    )
    shown = ", ".join(f"{shortened(name)} {counts.get(name, 0):,}" for name in class_names[:_NAMED])
    more = f", … and {len(class_names) - _NAMED:,} more" if len(class_names) > _NAMED else ""
    return [f"{len(class_names):,} classes: {shown}{more}"]


def _sizes(index: Index, max_side: int) -> list[str]:
    limit = max_side or _USUAL_SIDE
    count, size, smallest, largest, pixels, large, saved = index.database.execute(
        _SIZES, {"limit": float(limit)}
    ).fetchone()
    lines = [f"sizes: shortest side {smallest}, longest side {largest} pixels, "
             f"{size / 2**20:,.1f} MiB"]  # fmt: skip
    share, saving = f"{large / count:.0%}", f"{saved / pixels:.0%}"
    if max_side and large:
        lines.append(
            f"{share} of the images are scaled to {limit} pixels; {saving} fewer to decode"
        )
    elif large:
        lines.append(
            f"{share} of the images have more than {limit} pixels on a side; "
            f"--max_side={limit} would leave {saving} fewer pixels to decode"
        )
    return lines
