"""Which columns of a table are the image, the label and the split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ssljax.settings.errors import InputError, nearest

# The usual names, in order of preference.
NAMES = {
    "image": (
        "image", "img", "path", "file", "filename", "file_name", "filepath", "file_path",
        "image_path", "image_file", "image_name", "image_id", "jpg", "png",
    ),
    "label": ("label", "labels", "class", "class_name", "category", "target", "cls", "fine_label"),
    "split": ("split", "partition", "set", "subset", "fold"),
}  # fmt: skip


def parse(columns: str) -> dict[str, str]:
    """The column of each role, from `image:COLUMN,label:COLUMN,split:COLUMN`.

    Raises:
      InputError: another form or an unknown role.
    """
    chosen = {}
    for part in filter(None, columns.split(",")):
        role, colon, column = part.partition(":")
        if role not in NAMES or not colon:
            raise InputError(
                f"--columns: {part!r} is not ROLE:COLUMN with ROLE one of {', '.join(NAMES)}"
            )
        chosen[role] = column
    return chosen


def find(
    known: Sequence[str], chosen: dict[str, str], where: str, like: Mapping[str, Iterable[str]]
) -> dict[str, str]:
    """The column of each role that there is; `image` is always there.

    Args:
      known: the columns of the table.
      chosen: by the user; an empty column says that there is none.
      where: the table, for messages.
      like: columns of a role by their type, which come before those by name.

    Raises:
      InputError: a chosen column does not exist, or no column can be the image.
    """
    found = {}
    for role, names in NAMES.items():
        if role in chosen:
            if chosen[role] and chosen[role] not in known:
                hint = nearest(chosen[role], known)
                raise InputError(f"--columns: {where} has no column {chosen[role]!r}; {hint}")
            found[role] = chosen[role]
            continue
        lower = {column.lower(): column for column in reversed(known)}
        candidates = [*like.get(role, ()), *(lower[name] for name in names if name in lower)]
        found[role] = candidates[0] if candidates else ""
    if not found["image"]:
        raise InputError(
            f"--source: no column of {where} is known to be the image; it has "
            f"{', '.join(known)}; name it with --columns=image:COLUMN"
        )
    return {role: column for role, column in found.items() if column}
