"""Commands of the documents, run as they are written there."""

import random
import re
import subprocess
from pathlib import Path

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
