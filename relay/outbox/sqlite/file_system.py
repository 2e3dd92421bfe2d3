"""Where an outbox file lies, and what is at risk there: by the type of the file system, as Linux names it."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from relay.core.validation import Problem

_MOUNTS = Path("/proc/self/mountinfo")

_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "9p", "virtiofs", "ceph", "afs", "lustre", "gpfs"}
    | {"beegfs", "glusterfs", "ocfs2", "gfs2", "orangefs", "pvfs2", "vboxsf", "vmhgfs", "prl_fs", "fakeowner"}
)
_LAYERS = frozenset({"overlay", "overlayfs", "aufs"})
_MEMORY = frozenset({"tmpfs", "ramfs"})

_LOCAL_DISK = "put the outbox on a local disk, or into PostgreSQL (docs/stores.md)"
_VOLUME = "put the outbox on a volume of the container, or on a local disk"
_FOLDER = "mount the folder of the outbox, not the file: SQLite keeps two more files beside it"
_ONE_NAME = "remove the other names; every program must open the outbox by one name"

Mount = tuple[str, str]
"""Mount point, and type of the file system."""


def risks(path: Path) -> Sequence[Problem]:
    """What may damage or lose the outbox where it lies; empty for a local disk."""
    target = Path(os.path.realpath(path))
    found = mount_of(target, mounts())
    texts = []
    if found is not None:
        point, kind = found
        texts.append(_by_type(kind))
        if point == str(target):
            texts.append(("is mounted as a single file, so that its write-ahead log is elsewhere", _FOLDER))
    names = _names(target)
    if names > 1:
        what = f"has {names} names (hard links): programs that open it by different ones damage it"
        texts.append((what, _ONE_NAME))
    return [Problem(f"the outbox {path}", *text) for text in texts if text is not None]


def _by_type(kind: str) -> tuple[str, str] | None:
    if kind in _NETWORK:
        what = "locks and shared memory may not reach other machines, and two programs can damage the file"
        return f"is on a network or shared file system ({kind}): {what}", _LOCAL_DISK
    if kind == "fuse" or kind.startswith(("fuse.", "fuseblk")):
        what = "whether locks, shared memory and writes that must last work depends on its program"
        return f"is on a FUSE file system ({kind}): {what}", _LOCAL_DISK
    if kind in _LAYERS:
        return f"is in the container's own layer ({kind}): it is deleted with the container", _VOLUME
    if kind in _MEMORY:
        return f"is in memory ({kind}): it is lost when the machine or the container ends", _VOLUME
    return None


def mounts() -> Sequence[Mount]:
    """Of this process, in the order in which they were mounted; empty where they are unknown."""
    try:
        text = _MOUNTS.read_text("utf-8", "surrogateescape")
    except OSError:
        return ()
    return [found for found in map(parse_mount, text.splitlines()) if found is not None]


def parse_mount(line: str) -> Mount | None:
    """From a line of mountinfo: the fifth field, and the first one after the separator."""
    before, separator, after = line.partition(" - ")
    fields, kinds = before.split(" "), after.split(" ")
    if not separator or len(fields) < 5:
        return None
    point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
    return point, kinds[0]


def mount_of(target: Path, known: Sequence[Mount]) -> Mount | None:
    """The mount on which the path lies: the deepest, and of several at one point the last."""
    places = {str(target), *map(str, target.parents)}
    found: Mount | None = None
    for mount in known:
        if mount[0] in places and (found is None or len(mount[0]) >= len(found[0])):
            found = mount
    return found


def _names(target: Path) -> int:
    try:
        return target.stat().st_nlink
    except OSError:
        return 1
