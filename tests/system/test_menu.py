"""The menu in real terminals."""

import random
import re
from typing import Any

import pexpect

from eventually import eventually
from system.cluster import Cluster
from system.payload import digest, make_file

MIB = 1 << 20


def enter(terminal: Any, user: str, password: str) -> None:
    """Answer the prompts of the login; confirm a new account."""
    terminal.expect("Enter username: ")
    terminal.sendline(user)
    terminal.expect("Enter password: ")
    terminal.sendline(password)
    if terminal.expect(["Logged in as", re.escape(f"Create a new account {user}? [y/N] ")]) == 1:
        terminal.sendline("y")
        terminal.expect("Enter password again: ")
        terminal.waitnoecho()
        terminal.sendline(password)
        terminal.expect("Logged in as")


def choose(terminal: Any, choice: str) -> None:
    """Answer `Enter choice`."""
    terminal.expect("Enter choice: ")
    terminal.sendline(choice)


def name_file(terminal: Any, name: str) -> None:
    """Answer `Enter file name`."""
    terminal.expect("Enter file name: ")
    terminal.sendline(name)


def leave(terminal: Any) -> None:
    """Quit the menu; must exit with 0."""
    choose(terminal, "0")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


def test_a_file_is_uploaded_and_downloaded_in_the_menu(cluster: Cluster, rng: random.Random) -> None:
    ana, ben, cid = (cluster.peer(name, login=False) for name in ("ana", "ben", "cid"))
    source = make_file(ana.home / "film.bin", 2 * MIB + 1, rng)
    first, second, third = ana.menu(), ben.menu(), cid.menu()
    for terminal, user in ((first, "ana"), (second, "ben"), (third, "cid")):
        enter(terminal, user, "secret " + user)

    choose(first, "1")
    name_file(first, "film.bin")
    first.expect("File uploaded")
    holder = eventually(lambda: [peer for peer in (ben, cid) if (peer.shared / "film.bin").exists()])[0]
    other, terminal = (cid, third) if holder is ben else (ben, second)

    choose(terminal, "2")
    name_file(terminal, "film.bin")
    terminal.expect("File downloaded")
    terminal.expect(str(other.shared / "film.bin"))
    assert digest(other.shared / "film.bin") == digest(source)

    choose(first, "3")
    first.expect("Logged out")
    first.expect("Enter username: ")
    first.sendeof()
    first.expect(pexpect.EOF)
    leave(second)
    leave(third)
    assert ben.status().user == "ben"
    assert ana.status().user == ""


def test_a_file_is_exchanged_whichever_menu_opens_first(cluster: Cluster, rng: random.Random) -> None:
    ben = cluster.peer("ben", login=False)
    second = ben.menu()
    enter(second, "ben", "secret")
    ana = cluster.peer("ana", login=False)
    source = make_file(ana.home / "film.bin", 2 * MIB + 1, rng)
    first = ana.menu()
    enter(first, "ana", "secret")

    choose(first, "1")
    name_file(first, "film.bin")
    first.expect("File uploaded")
    choose(second, "2")
    name_file(second, "film.bin")
    second.expect("File already exists")
    assert digest(ben.shared / "film.bin") == digest(source)

    source = make_file(ben.shared / "songs" / "one.bin", 2 * MIB + 1, rng)
    eventually(lambda: len(ana.pclient("files").objects) == 2)
    choose(first, "2")
    name_file(first, "songs/one.bin")
    first.expect("File downloaded")
    assert digest(ana.shared / "songs" / "one.bin") == digest(source)
    leave(first)
    leave(second)


def test_menu_replies_start_with_the_contract_words(cluster: Cluster, rng: random.Random) -> None:
    ana = cluster.peer("ana")
    make_file(ana.home / "alone.bin", 100, rng)
    ana.pclient("logout")
    terminal = ana.menu()
    terminal.expect("Enter username: ")
    terminal.sendline("ana")
    terminal.expect("Enter password: ")
    terminal.sendline("wrong")
    terminal.expect("Invalid credentials")
    enter(terminal, "ana", "correct horse")
    choose(terminal, "1")
    name_file(terminal, "alone.bin")
    terminal.expect("No active peers available to upload file to")
    choose(terminal, "2")
    name_file(terminal, "nowhere.bin")
    terminal.expect("File not found")
    choose(terminal, "nonsense")
    leave(terminal)


def test_the_menu_reads_lines_without_a_terminal(cluster: Cluster, rng: random.Random) -> None:
    ana, ben = cluster.peer("ana", login=False), cluster.peer("ben")
    source = make_file(ana.home / "film.bin", MIB, rng)
    typed = "ana\nsecret\n1\nfilm.bin\n0\n"

    result = ana.pclient(typed=typed, json_output=False)

    assert result.code == 0, result
    assert "File uploaded" in result.stdout + result.stderr
    assert digest(ben.shared / "film.bin") == digest(source)


def test_a_pattern_that_matches_several_versions_asks_which_one(cluster: Cluster) -> None:
    ana, ben, cid = (cluster.peer(name) for name in ("ana", "ben", "cid"))
    for peer, name in ((ana, "dup.txt"), (ben, "dup.txt"), (ben, "dup2.txt")):
        (peer.home / name).write_text(f"{name} of {peer.address}")
        assert peer.pclient("upload", name, "--copies", "0").code == 0

    result = cid.pclient(typed="2\ndup*\n1\n0\n", json_output=False)

    assert result.stdout.count("File downloaded: ") == 2, result
    assert {path.name for path in cid.shared.glob("[!.]*")} == {"dup.txt", "dup2.txt"}


def test_the_password_is_not_echoed(cluster: Cluster) -> None:
    terminal = cluster.peer("ana", login=False).menu()
    terminal.expect("Enter username: ")
    terminal.sendline("ana")
    terminal.expect("Enter password: ")
    terminal.waitnoecho()
    terminal.sendline("hush-hush")
    terminal.expect_exact("Create a new account ana? [y/N] ")
    assert "hush-hush" not in terminal.before
    terminal.sendline("y")
    terminal.expect("Enter password again: ")
    terminal.waitnoecho()
    terminal.sendline("hush-hush")
    terminal.expect("Logged in as")
    assert "hush-hush" not in terminal.before
    leave(terminal)


def test_the_menu_has_line_editing_and_replies_start_lines(cluster: Cluster) -> None:
    ana = cluster.peer("ana", login=False)
    (ana.home / "note.txt").write_text("note")
    terminal = ana.menu()
    enter(terminal, "ana", "secret")
    choose(terminal, "1")
    left = "\x1b[D"
    name_file(terminal, "nte.txt" + 6 * left + "o")
    terminal.expect("No active peers available to upload file to")
    # Before the reply there are only the escape sequences that erase the progress bars.
    left_behind = r"(\x1b\[\?25h\r(\x1b\[1A\x1b\[2K)+)?"
    assert re.fullmatch(left_behind, terminal.before.rpartition("\n")[2])
    choose(terminal, "1")
    terminal.expect("Enter file name: ")
    terminal.sendeof()
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    assert (ana.shared / "note.txt").is_file()


def test_menu_hints_name_choices_and_no_commands(cluster: Cluster) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    for peer in (ana, ben):
        (peer.home / "note.txt").write_text(f"of {peer.address}")
        assert peer.pclient("upload", "note.txt", "--copies", "0").code == 0
    (ana.home / "proj").mkdir()
    for name in (".hid", "con.txt"):
        (ana.home / "proj" / name).touch()
    typed = "1\nproj\n2\nnowhere.txt\n2\n0123456789ab\n2\nnote.txt\n2\nnote*\n0\n"

    result = ana.pclient(typed=typed, json_output=False)

    refusals = [
        line for line in result.stdout.splitlines() if line.startswith(("File not found: ", "File already exists: "))
    ]
    assert len(refusals) == 4
    for line, choice in zip(refusals, "4488", strict=True):
        assert re.search(rf"\b{choice}\b", line), line
    assert "note.txt" in refusals[2]
    for name in (".hid", "con.txt"):
        assert f"proj/{name}" in result.stdout
    assert not re.search(r"pclient|--[a-z]", result.stdout)
