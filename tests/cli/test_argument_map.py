"""Which arguments a result answers, and under which name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.argument_map import by_path, of_names, of_paths
from cli.errors import CliError
from cli.models import Downloaded, Uploaded
from scripted_daemon import ID


def uploaded(name: str) -> Uploaded:
    return Uploaded(name, ID, 3, ())


def downloaded(name: str) -> Downloaded:
    return Downloaded(name, ID, 3, f"/shared/{name}", 0.5, (), 0, present=False)


def fault(name: str) -> CliError:
    return CliError("io", "", name=name)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, where `link` leads to `other/inner`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("other/inner")
    return tmp_path


def test_a_path_from_a_folder_that_was_removed_is_refused_in_a_line(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "gone").mkdir()
    monkeypatch.chdir(here / "gone")
    (here / "gone").rmdir()
    with pytest.raises(CliError, match=r"a: the current folder was removed: name it from /"):
        by_path(["/b", "a"])


def test_paths_that_lead_to_one_file_are_one(here: Path) -> None:
    words = ["a", "./a", f"{here}/a", "other/../a", "link/../a", "other/a"]
    assert by_path(words) == {f"{here}/a": words[:4], f"{here}/other/a": words[4:]}


def test_a_folder_and_what_is_not_there_keep_their_dots(here: Path) -> None:
    words = [".", "..", "link/..", "other/", "none/../a"]
    assert by_path(words) == {f"{here}/{word}": [word] for word in words}


def test_an_upload_answers_all_arguments_that_lead_to_it(here: Path) -> None:
    meaning = of_paths(by_path(["a", "./a", "other/b", "c"]))
    assert meaning(uploaded("a")) == ["a", "a"]
    assert meaning(fault(f"{here}/a")) == ["a", "./a"]
    assert meaning(uploaded("other/b")) == ["other/b"]
    assert meaning(uploaded("from a folder/a")) == ["from a folder/a"]
    assert meaning(fault("")) == [""]


def test_a_download_answers_all_names_and_the_id() -> None:
    meaning = of_names(["a", ID, "a", "*", "z", "z"])
    assert meaning(downloaded("a")) == ["a"] * 3
    assert meaning(downloaded("of the same contents")) == ["of the same contents"]
    assert meaning(fault("z")) == ["z"] * 2
    assert meaning(fault("")) == [""]


def test_another_name_answers_all_arguments() -> None:
    assert of_names(["a", "a"], "b")(downloaded("b")) == ["b"] * 2


@pytest.mark.parametrize(
    ("output", "taken"),
    [("/out/", "/out/sub/a"), ("/out", "/out/sub/a"), ("/out/./", "/out/sub/a"), ("/x/../out/", "/x/../out/sub/a")],
)
def test_what_lies_in_the_way_of_a_copy_is_told_of_as_the_file(output: str, taken: str) -> None:
    assert of_names(["sub/a"], output)(fault(taken)) == ["sub/a"]
