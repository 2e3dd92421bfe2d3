"""Where an outbox lies: the mount is found, and its type says what is at risk."""

import subprocess
from pathlib import Path

import pytest

from relay.core.ports import StoreError
from relay.outbox import risks_of
from relay.outbox.sqlite import file_system
from relay.outbox.sqlite.file_system import mount_of, parse_mount

LINES = [
    "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw",
    "40 22 0:35 / /srv rw shared:20 master:1 - nfs4 server:/export rw,vers=4.2",
    "41 40 0:36 / /srv/a\\040b rw - fuse.sshfs host: rw",
    "42 22 0:37 / /srv rw - cifs //server/share rw",
    "garbage",
]
MOUNTS = [found for found in map(parse_mount, LINES) if found is not None]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/relay/relay.db", "ext4"),
        ("/srv/relay.db", "cifs"),
        ("/srv/a b/relay.db", "fuse.sshfs"),
        ("/srv2/relay.db", "ext4"),
        ("/srv/a/relay.db", "cifs"),
    ],
)
def test_the_deepest_and_last_mount_counts(path: str, kind: str) -> None:
    found = mount_of(Path(path), MOUNTS)
    assert found is not None
    assert found[1] == kind


def test_nothing_is_said_where_mounts_are_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert mount_of(tmp_path / "relay.db", []) is None
    monkeypatch.setattr(file_system, "_MOUNTS", tmp_path / "nowhere")
    assert risks_of(f"sqlite:///{tmp_path}/relay.db") == []


def mounted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, point: Path | None = None) -> None:
    text = f"22 1 254:0 / / rw - ext4 /dev/vda rw\n23 22 0:1 / {point or tmp_path} rw - {kind} what rw\n"
    (tmp_path / "mountinfo").write_text(text)
    monkeypatch.setattr(file_system, "_MOUNTS", tmp_path / "mountinfo")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *(
            (kind, "network or shared file system")
            for kind in ("nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs")
        ),
        *((kind, "FUSE") for kind in ("fuse", "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuseblk")),
        ("overlay", "deleted with the container"),
        ("tmpfs", "in memory"),
        *((kind, "") for kind in ("ext4", "xfs", "btrfs", "zfs", "f2fs", "vfat")),
    ],
)
def test_each_type_says_what_is_at_risk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, text: str
) -> None:
    mounted(monkeypatch, tmp_path, kind)
    found = [f"{one}" for one in risks_of(f"sqlite:///{tmp_path}/relay.db")]
    assert len(found) == bool(text)
    assert all(text in one and f"({kind})" in one and f"{tmp_path}/relay.db" in one for one in found)


def test_a_file_that_is_mounted_without_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As `docker run --volume relay.db:/data/relay.db`: the log would stay in the container."""
    (tmp_path / "relay.db").write_bytes(b"")
    mounted(monkeypatch, tmp_path, "ext4", tmp_path / "relay.db")
    (found,) = risks_of(f"sqlite:///{tmp_path}/relay.db")
    assert "mounted as a single file" in found.what
    assert "mount the folder" in found.hint


def test_a_file_with_several_names(tmp_path: Path) -> None:
    (tmp_path / "relay.db").write_bytes(b"")
    (tmp_path / "other.db").hardlink_to(tmp_path / "relay.db")
    assert "has 2 names" in str(risks_of(f"sqlite:///{tmp_path}/relay.db")[-1])


def test_a_link_counts_by_its_target(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    (tmp_path / "relay.db").symlink_to(tmp_path / "share" / "relay.db")
    mounted(monkeypatch, tmp_path, "nfs4", tmp_path / "share")
    assert len(risks_of(f"sqlite:///{tmp_path}/relay.db")) == 1


def test_a_database_has_none_and_a_wrong_url_is_named() -> None:
    assert risks_of("postgresql://host/shop") == ()
    with pytest.raises(StoreError, match="names no outbox"):
        risks_of("mysql://host/shop")


def test_a_real_mount_is_found(small_disk: Path) -> None:
    assert subprocess.run(["test", "-d", str(small_disk)], check=False).returncode == 0
    (found,) = risks_of(f"sqlite:///{small_disk}/relay.db")
    assert "in memory (tmpfs)" in found.what
