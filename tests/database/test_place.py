"""Which file systems can hold a database that several processes share."""

from __future__ import annotations

from pathlib import Path

import pytest

from executor.database import place
from executor.database.errors import DatabaseUnusable

MOUNTS = """\
20 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 20 0:26 / /home rw shared:5 - nfs4 server:/home rw,vers=4.2
32 20 0:27 / /home/local rw - xfs /dev/vdb rw
33 20 0:28 / /mnt/a\\040b rw - fuse.sshfs me@there:/ rw
34 20 0:29 / /mnt/twice rw - cifs //server/share rw
35 34 0:30 / /mnt/twice rw - tmpfs tmpfs rw
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS)
    return path


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/home/me", "nfs4"),
        ("/homely", "ext4"),
        ("/home/local", "xfs"),
        ("/home/local/x", "xfs"),
        ("/mnt/a b/c", "fuse.sshfs"),
        ("/mnt/twice/x", "tmpfs"),
    ],
)
def test_the_innermost_mount_that_lies_on_top_counts(mounts: Path, folder: str, kind: str) -> None:
    assert place.file_system_of(Path(folder), mounts) == kind


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse", "ceph"])
def test_network_and_user_space_kinds_are_remote(kind: str) -> None:
    assert place.is_remote(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "", "fuseblk"])
def test_local_kinds_are_not(kind: str) -> None:
    assert not place.is_remote(kind)


def test_a_folder_on_a_network_file_system_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "file_system_of", lambda _: "nfs4")
    with pytest.raises(DatabaseUnusable, match=r"of kind nfs4.*export EXECUTOR_HOME="):
        place.check_place(Path("/home/me"))


def test_where_nothing_is_known_of_mounts_the_place_is_not_refused(tmp_path: Path) -> None:
    assert place.file_system_of(tmp_path, tmp_path / "missing") == ""
