"""Whether a folder is on a file system that can hold a database which several processes share."""

from __future__ import annotations

import os
import re
from pathlib import Path

from executor.database.errors import DatabaseUnusable

# On these, other machines or the server may not see this one's locks, or shared memory is not shared.
NETWORK_KINDS = frozenset({
    "nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "afs", "coda", "9p", "ceph", "glusterfs", "lustre",
    "gpfs", "beegfs", "ocfs2", "gfs2", "orangefs", "davfs", "virtiofs", "vboxsf", "prl_fs",
})  # fmt: skip


def check_place(folder: Path) -> None:
    """Pass if ``folder`` is on a local file system.

    Raises:
        DatabaseUnusable: it is on a network file system, or one in user space (FUSE).
    """
    kind = file_system_of(folder)
    if is_remote(kind):
        raise DatabaseUnusable(
            f"{folder} is on a file system of kind {kind}, where locks are not sure to be seen by everybody who shares "
            "it; set EXECUTOR_HOME to a folder on a local disk, for example: "
            f"export EXECUTOR_HOME=/var/tmp/executor-{os.getuid()}"
        )


def is_remote(kind: str) -> bool:
    """Whether a file system of this kind may be shared with others that do not see its locks."""
    return kind in NETWORK_KINDS or kind == "fuse" or kind.startswith("fuse.")


def file_system_of(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The kind of file system that ``folder`` is on, as ``mount`` prints it; empty where that cannot be known."""
    path = os.path.realpath(folder)
    best, kind = -1, ""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        words = before.split(" ")
        if len(words) < 5 or not after:
            continue
        point = _unescape(words[4])
        inside = point in {"/", path} or path.startswith(point + "/")
        if inside and len(point) >= best:  # of two mounts on one point, the later one lies on top
            best, kind = len(point), after.split(" ", 1)[0]
    return kind


def _unescape(text: str) -> str:
    """The path that stands in the table, where a blank is a backslash and 040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
