"""Where the kernel states what limits this process: its control group and those above it, version 1 or 2."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def own_groups(controller: str, root: Path = ROOT) -> list[Path]:
    """Folders of this process's control group and of all that hold it, mounts included; they need not exist.

    A limit of any of them holds. Within a container the group's own path is often not mounted: the mount itself is
    then the container's group.

    Args:
        controller: `cpu` or `memory`.
        root: below which `/proc` and `/sys` lie.
    """
    mount = root / "sys/fs/cgroup"
    folders = [mount, mount / controller]
    for controllers, path in _memberships(root / "proc/self/cgroup"):
        if not controllers:  # version 2
            folders += _from_mount(mount, path)
        elif controller in controllers.split(","):
            for name in {controller, controllers}:  # mounted as `cpu,cpuacct`, with a link `cpu` beside it or without
                folders += [mount / name, *_from_mount(mount / name, path)]
    return folders


def _memberships(file: Path) -> Iterator[tuple[str, str]]:
    """Controllers, joined by commas, and path of each group of this process; one of version 2 names no controller."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        yield controllers, path


def _from_mount(mount: Path, path: str) -> list[Path]:
    group = mount / path.lstrip("/")
    return [folder for folder in (group, *group.parents) if mount in folder.parents]
