"""What a Dockerfile takes from its context."""

from __future__ import annotations

import pytest

from runctl.containers.dockerfile_text import Instruction, copied_paths, copies


@pytest.mark.parametrize(
    ("rest", "path", "taken"),
    [
        (". /w", "a/b.py", True),
        ("src/ /w", "src/a.py", True),
        ("src /w", "srcs/a.py", False),
        ("--chown=1:1 *.txt /w", "requirements.txt", True),
        ("*.txt /w", "a/requirements.txt", False),
        ('["a b.txt", "/w"]', "a b.txt", True),
        ("--from=deps . /w", "a", False),
        ("./a.py b.py /w/", "b.py", True),
    ],
)
def test_a_copy_takes_what_its_sources_name(rest: str, path: str, taken: bool) -> None:
    assert copies(Instruction(1, "COPY", rest), path) is taken


def test_what_a_dockerfile_copies_from_its_context_is_read() -> None:
    text = (
        "FROM a AS other\nCOPY only-there /x\nFROM b\nCOPY --chown=1 dist/ ./src/a.py /x/\n"
        'ADD ["w x.whl", "/y/"]\nCOPY --from=other /z /z\nADD https://h/f /f\nCOPY *.txt $A /t/\nCOPY . .\n'
    )

    assert copied_paths(text) == [(2, "only-there"), (4, "dist"), (4, "src/a.py"), (5, "w x.whl"), (9, ".")]


def test_the_text_of_a_here_document_is_no_path() -> None:
    assert copied_paths("FROM a\nCOPY <<EOF /x/\nread me first\nEOF\nCOPY b.py /x/\n") == [(5, "b.py")]
