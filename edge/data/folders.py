"""Files in folders and in the folders within them."""

from collections.abc import Iterator
from pathlib import Path

from edge.data.names import case_name, is_remote
from edge.data.remote import list_objects
from edge.errors import CaseError

Types = tuple[str, ...]  # ends of names, in lower case


def files_in(folder: Path, types: Types) -> list[Path]:
    """What a folder holds of these types, in name order, without hidden ones; whatever is called so, be it a folder.

    Raises:
        CaseError: it cannot be read.
    """
    return [path for path in _children(folder) if path.name.lower().endswith(types)]


def files_within(folder: Path, types: Types, leave_out: Path | None = None) -> Iterator[Path]:
    """Likewise of the folders within a folder, at any depth, links followed, each once.

    Args:
        leave_out: a folder not to go into, such as that of the outputs.

    Raises:
        CaseError: one of them cannot be read.
    """
    if is_remote(folder):
        left_out = [] if leave_out is None else [leave_out]
        deeper = [path for path in list_objects(folder) if path.parent != folder and not {*path.parents} & {*left_out}]
        yield from (path for path in deeper if path.name.lower().endswith(types) and path.name[0] != ".")
        return
    been = {folder.resolve()} | ({leave_out.resolve()} if leave_out else set())
    yield from _within(folder, types, been)


def label_of(path: Path, folder: Path) -> str:
    """What a case is called among others: its path below `folder` without the ending; of one elsewhere its name."""
    name = case_name(path)
    return (path.parent.relative_to(folder) / name).as_posix() if folder in path.parents else name


def labelled(message: str, path: Path, label: str) -> str:
    """A message that begins with a case's name, with its label instead."""
    name = case_name(path)
    return label + message.removeprefix(name) if message.startswith(f"{name}: ") else message


def folders_within(folder: Path, leave_out: Path | None = None) -> Iterator[Path]:
    """The folders within a folder, at any depth, links followed, each once.

    Raises:
        CaseError: one of them cannot be read.
    """
    been = {folder.resolve()} | ({leave_out.resolve()} if leave_out else set())
    waiting = [folder]
    while waiting:
        for child in _children(waiting.pop()):
            if child.is_dir() and child.resolve() not in been:
                been.add(child.resolve())
                waiting.append(child)
                yield child


def _within(folder: Path, types: Types, been: set[Path]) -> Iterator[Path]:
    for child in _children(folder):
        if not child.is_dir() or child.name.lower().endswith(types) or child.resolve() in been:
            continue
        been.add(child.resolve())
        yield from files_in(child, types)
        yield from _within(child, types, been)


def _children(folder: Path) -> list[Path]:
    if is_remote(folder):
        return [path for path in list_objects(folder) if path.parent == folder and path.name[0] != "."]
    try:
        return sorted(path for path in folder.iterdir() if path.name[0] != ".")
    except OSError as error:
        raise CaseError(f"{folder}: cannot be read ({error.strerror or error})") from None
