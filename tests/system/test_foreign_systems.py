"""Users without a home folder, paths in it, and locales whose encoding is not UTF-8."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from programs import PCLIENT, PSERVER, SERVER, write_env
from system.cluster import Cluster, Peer
from system.payload import digest, make_file

# A user id without an entry in the list of users. It reads and writes all files, since the test's belong to root.
STRANGER = """
import os, sys
os.environ.pop("HOME", None)
capability = "+dac_override"
os.execvp("setpriv", [
    "setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", f"--inh-caps={capability}",
    f"--ambient-caps={capability}", sys.executable, PROGRAM, *sys.argv[1:],
])
"""


def as_stranger(program: Path, folder: Path) -> Path:
    """Return a script that runs a program as a user without a home folder."""
    script = folder / f"stranger_{program.name}"
    script.write_text(STRANGER.replace("PROGRAM", repr(str(program))))
    return script


@pytest.mark.root
def test_a_user_without_a_home_folder_needs_only_the_folders(
    empty_cluster: Cluster, tmp_path: Path, rng: random.Random
) -> None:
    tracker = empty_cluster.start_tracker()
    tracker.terminate()
    # It belongs to root.
    shutil.rmtree(empty_cluster.folder / "tracker")
    tracker.restart_as(as_stranger(SERVER, tmp_path))
    ana = empty_cluster.peer("ana", script=as_stranger(PSERVER, tmp_path))
    ana.pclient_script = as_stranger(PCLIENT, tmp_path)
    ben = empty_cluster.peer("ben")
    content = digest(make_file(ana.home / "film.bin", 3_000_000, rng))
    assert ana.pclient("upload", "film.bin").one["copies"] == [ben.address]
    assert digest(ben.shared / "film.bin") == content
    assert Path(f"/proc/{ana.program.pid}").stat().st_uid == 12345


@pytest.mark.root
@pytest.mark.parametrize("program", [SERVER, PSERVER, PCLIENT], ids=lambda path: path.stem)
def test_a_user_without_a_home_folder_learns_which_keys_to_set(program: Path, tmp_path: Path) -> None:
    keys = {
        SERVER: {"SERVER_URL": "127.0.0.1", "SERVER_PORT": "0"},
        PSERVER: dict.fromkeys(("PSERVER_URL", "PSERVER_LOCAL_URL", "SERVER_URL"), "127.0.0.1")
        | {"PSERVER_PORT": "5001", "SERVER_PORT": "5000"},
        PCLIENT: {"PSERVER_URL": "127.0.0.1", "PSERVER_PORT": "5001"},
    }[program]
    env = write_env(tmp_path / ".env", keys)
    refused = subprocess.run(
        [sys.executable, as_stranger(program, tmp_path), env],
        env={key: value for key, value in os.environ.items() if not key.startswith("XDG_")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert refused.returncode == 78
    asked = [line.split(": ")[2] for line in refused.stderr.splitlines()]
    assert asked == (["STATE_DIR", "SHARED_DIR"] if program == PSERVER else ["STATE_DIR"])
    assert all("no home folder" in line for line in refused.stderr.splitlines())


@pytest.mark.parametrize("path", ["~/share", "$HOME/share", '"${HOME}/share"'])
def test_paths_of_an_env_file_may_begin_with_the_home_folder(cluster: Cluster, tmp_path: Path, path: str) -> None:
    ana = cluster.peer("ana", login=False)
    ana.terminate()
    env = ana.env.read_text().replace(f"SHARED_DIR={ana.shared}", f"SHARED_DIR={path}")
    ana.env.write_text(env)
    ana.start(HOME=str(tmp_path / "home"))
    assert ana.status().shared_dir == str(tmp_path / "home" / "share")
    assert (tmp_path / "home" / "share").is_dir()


@pytest.fixture(params=["POSIX", "C", "en_US.ISO-8859-1"])
def locale(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The environment of a locale whose encoding is not UTF-8."""
    variables = {"LC_ALL": request.param, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    if "." in request.param:
        if not shutil.which("localedef") or not Path("/usr/share/i18n/locales/en_US").exists():
            pytest.skip("needs the package locales")
        folder = tmp_path / "locales"
        folder.mkdir()
        subprocess.run(["localedef", "-i", "en_US", "-f", "ISO-8859-1", folder / request.param], check=True, timeout=60)
        variables["LOCPATH"] = str(folder)
    encoding = subprocess.run(
        [sys.executable, "-c", "import sys; print(sys.getfilesystemencoding())"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout.strip()
    assert encoding != "utf-8"
    return variables


def pclient(peer: Peer, locale: dict[str, str], *words: str) -> list[dict[str, object]]:
    """Run pclient in a locale; return its objects. The words are encoded in UTF-8."""
    done = subprocess.run(
        [os.fsencode(word) for word in peer.command("--json", *words)],
        env={**os.environ, **locale},
        cwd=peer.home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done
    return [json.loads(line) for line in done.stdout.decode("utf-8").splitlines()]


def test_names_are_utf8_in_any_locale(cluster: Cluster, locale: dict[str, str], rng: random.Random) -> None:
    ana, ben = cluster.peer("ana"), cluster.peer("ben")
    ana.terminate()
    cluster.tracker.terminate()
    cluster.tracker.start(**locale)
    names = ("déjà vu.bin", "日本.bin")
    contents = {name: digest(make_file(ana.home / name, 1000, rng)) for name in names}
    shared = digest(make_file(ana.shared / "größe/ñ.txt", 1000, rng))
    ana.start(**locale)
    for name in names:
        [sent] = pclient(ana, locale, "upload", name)
        assert (sent["name"], sent["copies"]) == (name, [ben.address])
        assert digest(ben.shared / name) == contents[name]
    [received] = pclient(ben, locale, "download", "größe/ñ.txt")
    assert received["path"] == str(ben.shared / "größe" / "ñ.txt")
    assert digest(ben.shared / "größe" / "ñ.txt") == shared
    assert {each["name"] for each in pclient(ana, locale, "files")} == {*names, "größe/ñ.txt"}
