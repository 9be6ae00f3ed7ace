"""The generated code is what the .proto gives."""

from proto import outdated_files


def test_generating_anew_changes_nothing() -> None:
    assert outdated_files() == []
