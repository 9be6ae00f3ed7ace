"""Commands of the documents, run as they are written there, and what the documents show of their output."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from programs import TOP
from system.certificates import Certificates
from system.cluster import Cluster
from system.payload import digest, make_file

MIB = 1 << 20
STRICT_HANDSHAKE = TOP / "tests" / "system" / "strict_handshake.py"


def blocks(page: str, heading: str) -> list[list[str]]:
    """The indented blocks below one heading of a page, line by line."""
    [section] = re.findall(rf"(?ms)^## {re.escape(heading)}\n(.*?)(?:^## |\Z)", (TOP / page).read_text())
    found = re.findall(r"(?m)(?:^    .*\n|^\n(?=    ))+", section)
    return [textwrap.dedent(block).strip("\n").splitlines() for block in found]


def python_command(version: str) -> tuple[str, dict[str, str]] | None:
    """Return a Python outside the environment of the project, and the variables with which pyenv chooses it."""
    found = shutil.which(f"python{version.rpartition('.')[0]}")
    variables = {**os.environ, "PYENV_VERSION": version}
    if found is None or subprocess.run([found, "-c", ""], env=variables, capture_output=True, check=False).returncode:
        return None
    return found, variables


def make_by_command(folder: Path) -> Path:
    """Run the line with the launcher in docs/security.md; return the folder of one machine."""
    [command] = re.findall(r"(?m)^    \./(bootstrap/certificates .*)$", (TOP / "docs" / "security.md").read_text())
    launcher, target, *hosts = command.split()
    assert hosts == ["203.0.113.1", "203.0.113.7"]
    subprocess.run([TOP / launcher, target, *hosts], cwd=folder, capture_output=True, check=True)
    return folder / str(target) / "203.0.113.7"


def make_by_openssl(folder: Path) -> Path:
    """Run the lines with openssl in docs/security.md; return the folder of the machine."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    recipe = [line for block in blocks("docs/security.md", "TLS") for line in block]
    script = "\n".join(recipe[recipe.index("HOST=203.0.113.7") - 4 :])
    assert script.startswith("printf ")
    subprocess.run(["sh", "-e", "-c", script], cwd=folder, capture_output=True, check=True)
    return folder / "203.0.113.7"


@pytest.fixture(params=[make_by_command, make_by_openssl], ids=["command", "openssl"])
def machine_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder with ca.pem, cert.pem and key.pem of a machine, made as docs/security.md says."""
    make: Callable[[Path], Path] = request.param
    return make(tmp_path)


def test_the_certificates_of_the_security_page_serve(machine_folder: Path, tmp_path: Path, rng: random.Random) -> None:
    # The machines are all on this one here, and every certificate is valid for 127.0.0.1.
    home = tmp_path / "cluster"
    home.mkdir()
    cluster = Cluster(home, Certificates.of_machine(machine_folder))
    try:
        cluster.start_tracker()
        ana, ben = cluster.peer("ana"), cluster.peer("ben")
        source = make_file(ana.home / "film.bin", 3 * MIB, rng)
        assert ana.pclient("upload", "film.bin").one["copies"] == [ben.address]
        assert digest(ben.shared / "film.bin") == digest(source)
    finally:
        cluster.close()


@pytest.mark.parametrize("version", ["own", "3.13.0"])
def test_the_certificates_of_the_security_page_pass_strict_verification(machine_folder: Path, version: str) -> None:
    python = (sys.executable, dict(os.environ)) if version == "own" else python_command(version)
    if python is None:
        pytest.skip(f"needs Python {version}")
    command, variables = python
    for host in ("203.0.113.7", "127.0.0.1", "localhost"):
        words = [command, str(STRICT_HANDSHAKE), str(machine_folder), host]
        done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_lines_of_the_deployment_page_reset_an_account(empty_cluster: Cluster) -> None:
    tracker = empty_cluster.start_tracker()
    ana, ben = empty_cluster.peer("ana"), empty_cluster.peer("ben")
    assert tracker.terminate() == 0
    [script] = [block for block in blocks("docs/deployment.md", "Accounts") if block[0].startswith("python3 ")]
    shell = "\n".join(script).replace("STATE_DIR", str(empty_cluster.folder / "tracker"), 1).replace("NAME", "ana", 1)
    subprocess.run(["sh", "-e", "-c", shell], check=True)
    tracker.start()
    assert ana.pclient("login", "ana", "--password-stdin", typed="a new password\n").one["registered"] is True
    assert ben.pclient("login", "ben", "--password-stdin", typed="a new password\n").code == 77


def pattern(shown: str) -> str:
    """A regular expression for a line of output whose numbers, ids and paths differ from run to run."""
    words = re.sub(r"(?<=\s)/\S+", "<path>", f" {shown}").strip()
    words = re.sub(r"\b[0-9a-f]{12,64}\b", "<id>", words)
    words = re.sub(r"[0-9][0-9,.]*(?<![,.])", "<number>", words)
    for mark, expression in (("<path>", r"/\S+"), ("<id>", "[0-9a-f]+"), ("<number>", "[0-9][0-9,.]*")):
        words = words.replace(mark, f"\0{expression}\0")
    return "".join(part if at % 2 else re.escape(part) for at, part in enumerate(words.split("\0")))


def test_the_demo_prints_what_readme_shows() -> None:
    command, shown = blocks("README.md", "Quick start")[:2]
    assert command == ["./bootstrap/demo"]
    done = subprocess.run([TOP / command[0], "--once"], capture_output=True, text=True, check=True)
    printed = done.stdout
    for line in filter(None, (line.strip() for line in shown)):
        if line != "...":
            found = re.search(pattern(line), printed)
            assert found is not None, (line, printed)
            printed = printed[found.end() :]


def test_two_peers_on_one_machine_print_what_readme_shows(checkout: Path, environment: dict[str, str]) -> None:
    programs: list[pexpect.spawn[str]] = []
    try:
        for line in (line for block in blocks("README.md", "Two peers on one machine") for line in block):
            prompt = re.match(r"(Enter [^:]*:|.*\[y/N\]) ?(.*)", line)
            if line.startswith("$ rm "):
                # "Stop: choose 0 in both menus, and press Ctrl-C in the first terminal."
                tracker, ana, _, ben = programs
                for menu in (ben, ana):
                    menu.expect_exact("Enter choice:")
                    menu.sendline("0")
                    assert exit_status(menu) == 0
                tracker.sendintr()
                assert exit_status(tracker) == 0
            if line.startswith(("$ head ", "$ rm ")):
                command = line.removeprefix("$ ")
                subprocess.run(command, shell=True, cwd=checkout, env=environment, check=True)
            elif line.startswith("$ "):
                words = line.removeprefix("$ .venv/bin/python ").split()
                program = pexpect.spawn(
                    sys.executable,
                    words,
                    cwd=str(checkout),
                    env={**environment, "NO_COLOR": "1"},
                    encoding="utf-8",
                    timeout=30,
                    dimensions=(40, 200),
                )
                programs.append(program)
            elif prompt:
                programs[-1].expect_exact(prompt[1])
                programs[-1].sendline(prompt[2] or "secret")
            else:
                programs[-1].expect(pattern(line))
    finally:
        for program in reversed(programs):
            program.close(force=True)
    left = [path for path in Path(environment["HOME"]).rglob("*") if not path.is_dir()]
    assert not left and not (checkout / "hello.bin").exists()


def exit_status(program: "pexpect.spawn[str]") -> int | None:
    """Wait for the end of a program and return its exit status."""
    program.expect(pexpect.EOF)
    program.close()
    status: int | None = program.exitstatus
    return status


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_curl_lines_of_the_api_page_get_what_the_page_says(empty_cluster: Cluster) -> None:
    tracker = empty_cluster.start_tracker()
    ours = empty_cluster.certificates
    scheme, options = ("https", f"--cacert {ours.authority} ") if ours else ("http", "")
    page = (TOP / "docs" / "tracker-api.md").read_text()
    lines = re.findall(r"(?m)^    (\w+=.*|curl .*)$", page)
    script = [f"T={scheme}://127.0.0.1:{tracker.program.port}" if line.startswith("T=") else line for line in lines]
    answers = []
    token = ""
    for at, line in enumerate(script):
        if line.startswith("A="):
            script[at] = line.replace("TOKEN-OF-THAT-RESPONSE", token)
        if line.startswith("curl "):
            variables = "\n".join(each for each in script[:at] if not each.startswith("curl "))
            command = line.replace("curl ", rf"curl {options}-s -w '\n%{{http_code}}' ", 1)
            done = subprocess.run(
                ["sh", "-c", f"{variables}\n{command}"], capture_output=True, text=True, check=True, timeout=30
            )
            body, _, status = done.stdout.rpartition("\n")
            if line.endswith("$T/login"):
                token = json.loads(body)["token"]
            answers.append((status, line.rpartition("$T")[2].strip('"')))
    refused = [path for status, path in answers if not status.startswith("2")]
    assert refused == ["/query?name=a.txt", "/query", "/upload"]
    assert [status for status, _ in answers if not status.startswith("2")] == ["404", "404", "404"]
