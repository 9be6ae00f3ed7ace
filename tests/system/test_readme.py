"""README's commands, run as they stand there."""

import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from programs import TOP
from system.certificates import Certificates
from system.cluster import Cluster
from system.payload import digest, make_file

MIB = 1 << 20


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_the_certificates_of_the_security_section_serve(tmp_path: Path, rng: random.Random) -> None:
    [section] = re.findall(r"(?ms)^## Security\n(.*?)^## ", (TOP / "README.md").read_text())
    commands = re.findall(r"(?m)^    ((?:openssl|printf) .*)$", section)
    assert len(commands) == 4
    for command in commands:
        here = command.replace("203.0.113.7", "127.0.0.1")
        subprocess.run(["sh", "-c", here], cwd=tmp_path, capture_output=True, check=True)

    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = Cluster(folder, Certificates(tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem"))
    try:
        cluster.start_tracker()
        ana, ben = cluster.peer("ana"), cluster.peer("ben")
        source = make_file(ana.home / "film.bin", 3 * MIB, rng)
        assert ana.pclient("upload", "film.bin").one["copies"] == [ben.address]
        assert digest(ben.shared / "film.bin") == digest(source)
    finally:
        cluster.close()
