"""`.p2pignore` as a user meets it: in status, uploads, downloads and pushes."""

import random

from eventually import eventually
from system.cluster import Cluster, Peer
from system.payload import digest, digests_in, make_file


def listed(peer: Peer) -> set[str]:
    """Return the names with a complete holder."""
    return {each["name"] for each in peer.pclient("files").objects if each["holders"]}


def test_patterns_withdraw_files_and_status_counts_them(cluster: Cluster, rng: random.Random) -> None:
    ana = cluster.peer("ana")
    for name in ("film.bin", "draft.tmp", "node_modules/a/b.js", "node_modules/c.js", "sub/secret.txt", "sub/open.txt"):
        make_file(ana.shared / name, 1000, rng)
    (ana.shared / "sub" / ".p2pignore").write_text("/secret.txt\n")
    everything = {"film.bin", "draft.tmp", "node_modules/a/b.js", "node_modules/c.js", "sub/open.txt"}
    eventually(lambda: listed(ana) == everything)
    (ana.shared / ".p2pignore").write_text("# mine\n*.tmp\nnode_modules/\n")
    eventually(lambda: listed(ana) == {"film.bin", "sub/open.txt"})
    assert ana.pclient("status").one["ignored"] == {"files": 2, "folders": 1}
    assert "2 files and 1 folder (.p2pignore)" in ana.pclient("status", json_output=False).stdout
    (ana.shared / ".p2pignore").unlink()
    eventually(lambda: listed(ana) == everything)


def test_an_upload_says_which_pattern_leaves_a_file_out(cluster: Cluster, rng: random.Random) -> None:
    ana = cluster.peer("ana")
    (ana.shared / ".p2pignore").write_text("*.tmp\n")
    make_file(ana.shared / "pkg" / "a.tmp", 1000, rng)
    make_file(ana.shared / "pkg" / "a.txt", 1000, rng)
    make_file(ana.home / "outside.tmp", 1000, rng)
    eventually(lambda: ana.pclient("status").one["ignored"]["files"] == 1)
    for path in ("shared/pkg/a.tmp", "outside.tmp"):
        refused = ana.pclient("upload", path, "--copies", "0")
        assert (refused.code, refused.error) == (77, "not_allowed")
        assert "'*.tmp' in .p2pignore" in refused.objects[0]["error"]["message"]
    assert not (ana.shared / "outside.tmp").exists()
    sent = ana.pclient("upload", "shared/pkg", "--copies", "0")
    assert [each["name"] for each in sent.objects] == ["pkg/a.txt"]
    assert "1 name left out by .p2pignore" in sent.stderr


def test_a_push_of_a_name_that_is_left_out_goes_to_another_peer(cluster: Cluster, rng: random.Random) -> None:
    ana, ben, cid = (cluster.peer(name) for name in ("ana", "ben", "cid"))
    (ben.shared / ".p2pignore").write_text("*.tmp\n")
    # It would match what is pushed, and must not be shared for that.
    content = make_file(ana.home / "small.tmp", 1000, rng).read_bytes()
    (ben.shared / "small.tmp").write_bytes(content)
    make_file(ana.home / "large.tmp", 3_000_000, rng)
    eventually(lambda: ben.pclient("status").one["ignored"]["files"] == 1)
    for name in ("small.tmp", "large.tmp"):
        assert ana.pclient("upload", name, "--copies", "2").one["copies"] == [cid.address]
    assert ben.status().files == 0
    cid.terminate()
    refused = ana.pclient("upload", "large.tmp", "--copies", "2")
    assert "does not share files of that name" in refused.stdout + refused.stderr


def test_a_download_says_that_the_file_will_not_be_shared(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    (ben.shared / ".p2pignore").write_text("*.iso\n")
    for name, size in (("large.iso", 3_000_000), ("small.iso", 1000)):
        make_file(ana.shared / name, size, rng)
    assert ana.pclient("upload", str(ana.shared), "--copies", "0").code == 0
    eventually(lambda: listed(ben) == {"large.iso", "small.iso"})
    received = ben.pclient("download", "large.iso", "small.iso")
    assert received.code == 0
    assert "not shared from here: large.iso matches '*.iso' in .p2pignore, and 1 other file" in received.stderr
    assert digests_in(ben.shared) == digests_in(ana.shared)
    eventually(lambda: ben.status().files == 0)
    again = ben.pclient("download", "large.iso", "small.iso")
    assert [each["present"] for each in again.objects] == [True, True]
    (ben.shared / "small.iso").write_bytes(b"other")
    changed = ben.pclient("download", "small.iso")
    assert (changed.code, changed.error) == (73, "target_exists")
    assert digest(ben.shared / "large.iso") == digest(ana.shared / "large.iso")
