"""Here-documents are told from other text as BuildKit tells them."""

from __future__ import annotations

import pytest

from runctl.containers.dev_image import dev_image
from runctl.containers.dockerfile_text import copied_paths, parse_dockerfile
from runctl.containers.heredocs import heredocs


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("<<EOF", ["EOF"]),
        ("<<-EOF", ["EOF"]),
        ("3<<EOF cat", ["EOF"]),
        ("<<EOF <<EOF2 /x", ["EOF", "EOF2"]),
        ("<<'EOF'", ["EOF"]),
        ('<<"EOF"', ["EOF"]),
        ("<<eo'f'", ["eof"]),
        (r"<<eo\'f", ["eo'f"]),
        ("<<'one two'", ["one two"]),
        ("<<file.txt /dest", ["file.txt"]),
        ("<<$EOF", ["$EOF"]),
        ("<<  EOF > foo", ["EOF"]),
        ("<< -EOF", ["-EOF"]),
        ("--mount=type=cache,target=/c <<M", ["M"]),
        ("cat <<EOF > /x && echo ${y:-z}", ["EOF"]),
        ("cat <<<hello", []),
        ('cat <<< "$x"', []),
        ("make -j$((1<<n))", []),
        ("echo '<<EOF'", []),
        ('echo "<<EOF"', []),
        ('echo "a \\" <<EOF"', []),
        (r"echo \<<EOF", []),
        ("x<<EOF", []),
        ("<<", []),
        ("<<-", []),
        ("<<- EOF", []),
        ("it's <<EOF", []),
        ('"open <<EOF', []),
        ("${x <<EOF", []),
        ("${a[0]} <<EOF", []),
        ("${a/b/c} ${d:0:1} $1 $$ <<EOF", ["EOF"]),
    ],
)
def test_a_document_is_a_whole_word_outside_of_quotes(line: str, names: list[str]) -> None:
    assert [name for name, _ in heredocs(line)] == names


def keywords(text: str) -> list[str]:
    return [instruction.keyword for instruction in parse_dockerfile(text).instructions]


@pytest.mark.parametrize(
    "run",
    [
        "RUN cat <<<hello",
        "RUN make -j$((1<<n))",
        "RUN make -j$(( 1 << n ))",
        "RUN echo 'a <<EOF'",
        'RUN ["cat", "<<EOF"]',
        'RUN --mount=type=cache,target=/c ["cat", "<<EOF"]',
        "RUN cat <<NEVER",
        "RUN\tx",
        "RUN echo \\\\",
        "ONBUILD RUN x",
        "USER <<EOF",
    ],
)
def test_what_follows_is_seen(run: str) -> None:
    text = f"FROM a AS base\n{run}\nCOPY x /x\nFROM\tbase\tAS\ttrain\nCOPY\t--chown=1\ty /y\n"

    assert keywords(text)[-3:] == ["COPY", "FROM", "COPY"]
    assert [stage.name for stage in parse_dockerfile(text).stages] == ["base", "train"]
    assert copied_paths(text, "train") == [(3, "x"), (5, "y")]


@pytest.mark.parametrize(
    "document",
    [
        "RUN <<EOF\nCOPY hidden /x\nEOF",
        "RUN <<-EOF\nCOPY hidden /x\n\tEOF",
        "RUN <<'one two'\nCOPY hidden /x\none two",
        "COPY <<A <<B /x/\nB\nCOPY hidden /x\nA\nA\nB",
        "ONBUILD RUN <<EOF\nCOPY hidden /x\nEOF",
        "RUN\t<<EOF\r\nCOPY hidden /x\r\nEOF\r",
        "RUN x && \\\n  # a comment\n\n  cat <<EOF\nCOPY hidden /x\nEOF",
    ],
)
def test_what_is_in_a_document_is_no_instruction(document: str) -> None:
    text = f"FROM a\n{document}\nCOPY y /y\n"

    assert len(keywords(text)) == 3
    assert [path for _, path in copied_paths(text)] == ["y"]


def test_a_line_that_goes_on_is_joined_as_it_stands() -> None:
    (instruction,) = parse_dockerfile("RUN ec\\\nho a \\ \n    b\\\\\n").instructions

    assert instruction.rest == "echo a     b\\\\"


def parts(run: str, contents: dict[str, bytes]) -> object:
    text = f"FROM a\n{run}\nCOPY tokenizer.model /opt/\nCOPY . /workspace\n"
    ignore_files = ("Dockerfile.dockerignore", ".dockerignore")
    return dev_image(text, "train.py", contents, contents.__getitem__, ignore_files=ignore_files).parts


@pytest.mark.parametrize("run", ["RUN cat <<<hello", "RUN x"])
def test_dev_mode_compares_what_is_copied_after_a_here_string(run: str) -> None:
    files = {"train.py": b"", "tokenizer.model": b"1"}

    assert parts(run, files) != parts(run, {**files, "tokenizer.model": b"2"})


def test_dev_mode_compares_the_ignore_file_that_docker_reads() -> None:
    files = {"train.py": b"", "tokenizer.model": b"1", ".dockerignore": b"a"}
    own = {**files, "Dockerfile.dockerignore": b"a"}

    assert parts("RUN x", files) != parts("RUN x", {**files, ".dockerignore": b"b"})
    assert parts("RUN x", own) == parts("RUN x", {**own, ".dockerignore": b"b"})
