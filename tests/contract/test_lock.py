"""Pipfile, lock and the images' requirements agree, and none names a package index."""

import json
import re
import tomllib
from typing import Any

import pytest

from lock import IMAGES, LOCK, requirements
from programs import TOP


@pytest.fixture
def lock() -> dict[str, Any]:
    return dict(json.loads(LOCK.read_text()))


@pytest.fixture
def pipfile() -> dict[str, Any]:
    return tomllib.loads((TOP / "Pipfile").read_text())


def test_an_images_requirements_are_what_the_lock_gives(lock: dict[str, Any]) -> None:
    for image in IMAGES:
        assert (TOP / image / "requirements.txt").read_text() == requirements(lock, image)


def test_a_package_has_one_version_in_all_sections_of_the_lock(lock: dict[str, Any]) -> None:
    for image in IMAGES:
        for name, entry in lock[image].items():
            assert entry["version"] == lock["default"][name]["version"]


def test_an_images_packages_are_asked_for_as_in_packages(pipfile: dict[str, Any]) -> None:
    for image in IMAGES:
        assert pipfile[image].items() <= pipfile["packages"].items()
    only_bootstrap = {"cryptography"}
    assert pipfile["packages"].keys() == pipfile["server"].keys() | pipfile["peer"].keys() | only_bootstrap


def test_the_tracker_has_no_grpc_and_the_peer_no_flask(lock: dict[str, Any]) -> None:
    assert not {"grpcio", "protobuf", "requests"} & lock["server"].keys()
    assert not {"flask", "granian"} & lock["peer"].keys()


def test_no_package_index_is_named(lock: dict[str, Any], pipfile: dict[str, Any]) -> None:
    assert lock["_meta"]["sources"] == []
    assert "source" not in pipfile
    for name in ("Pipfile", "Pipfile.lock", "server/requirements.txt", "peer/requirements.txt"):
        assert not re.search(r"https?://|--(extra-)?index", (TOP / name).read_text()), name


def test_every_requirement_is_pinned_and_hashed() -> None:
    for image in IMAGES:
        entries = (TOP / image / "requirements.txt").read_text().replace("\\\n", "").splitlines()[1:]
        assert entries
        for entry in entries:
            assert re.match(r"[a-z0-9-]+(\[[a-z,]+\])?==\S+ .*--hash=sha256:[0-9a-f]{64}", entry), entry


def test_every_package_has_its_reason_beside_it() -> None:
    text = (TOP / "Pipfile").read_text()
    for section in ("packages", "dev-packages"):
        [body] = re.findall(rf"(?ms)^\[{section}\]\n(.*?)(?=^\[|\Z)", text)
        for line in body.split("\n\n")[0].splitlines():
            assert re.search(r'" +# [\w/]', line), line
