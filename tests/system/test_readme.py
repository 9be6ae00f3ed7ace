"""Commands of the documents, run as they are written there, and what the documents show of their output."""

import json
import random
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pexpect
import pytest

from programs import TOP
from system.certificates import Certificates
from system.cluster import Cluster
from system.payload import digest, make_file

MIB = 1 << 20


def test_the_certificates_of_the_security_page_serve(tmp_path: Path, rng: random.Random) -> None:
    [command] = re.findall(r"(?m)^    \./(bootstrap/certificates .*)$", (TOP / "docs" / "security.md").read_text())
    launcher, folder, *hosts = command.split()
    assert hosts == ["203.0.113.1", "203.0.113.7"]
    subprocess.run([TOP / launcher, folder, *hosts], cwd=tmp_path, capture_output=True, check=True)

    # Both are on this machine here, and every certificate is good for 127.0.0.1.
    home = tmp_path / "cluster"
    home.mkdir()
    cluster = Cluster(home, Certificates.of_machine(tmp_path / folder / "203.0.113.7"))
    try:
        cluster.start_tracker()
        ana, ben = cluster.peer("ana"), cluster.peer("ben")
        source = make_file(ana.home / "film.bin", 3 * MIB, rng)
        assert ana.pclient("upload", "film.bin").one["copies"] == [ben.address]
        assert digest(ben.shared / "film.bin") == digest(source)
    finally:
        cluster.close()


def blocks(page: str, heading: str) -> list[list[str]]:
    """The indented blocks below one heading of README, line by line."""
    [section] = re.findall(rf"(?ms)^## {re.escape(heading)}\n(.*?)^## ", (TOP / page).read_text())
    found = re.findall(r"(?m)(?:^    .*\n|^\n(?=    ))+", section)
    return [textwrap.dedent(block).strip("\n").splitlines() for block in found]


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
    assert refused == ["/query?name=a.txt", "/query", "/upload", "/report"]
    assert [status for status, _ in answers if not status.startswith("2")] == ["404", "404", "404", "403"]
