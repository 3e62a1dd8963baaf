"""What an image is made of besides the code."""

from __future__ import annotations

import pytest

from runctl.containers.dev_image import DOCKERFILE, OPTIONS, DevImage, dev_image

FILES = (
    *(
        "Dockerfile",
        "README.md",
        "conf/app.yaml",
        "pkg/a.py",
        "pkg/b.py",
        "requirements.txt",
        "tool/build.sh",
    ),
    *("train.py", "vendor/x.whl"),
)


def look(text: str, script: str | None = "train.py", **more: object) -> DevImage:
    return dev_image(text, script, FILES, lambda path: path.encode(), **more)  # type: ignore[arg-type]


def files(found: DevImage) -> set[str]:
    return set(found.parts) - {DOCKERFILE, OPTIONS}


@pytest.mark.parametrize(
    ("lines", "looked_at"),
    [
        (["COPY . /workspace"], {"requirements.txt"}),
        (
            ["COPY requirements.txt .", "RUN pip install -r requirements.txt", "COPY . ."],
            {"requirements.txt"},
        ),
        (
            ["COPY vendor /vendor", "RUN pip install /vendor/*", "COPY . ."],
            {"requirements.txt", "vendor/x.whl"},
        ),
        (['COPY ["conf/app.yaml", "/etc/"]', "COPY . ."], {"requirements.txt", "conf/app.yaml"}),
        (["COPY pkg pkg", "RUN pip install ./pkg", "COPY . ."], {"requirements.txt", "pkg/a.py", "pkg/b.py"}),
        (["RUN true", "COPY pkg ./pkg", "COPY train.py ."], {"requirements.txt"}),
        (["RUN true", "COPY pkg/*.py ./pkg/", "COPY train.py ."], {"requirements.txt"}),
        (["RUN true", "COPY pkg /opt/pkg", "COPY train.py ."], {"requirements.txt", "pkg/a.py", "pkg/b.py"}),
        (["COPY --from=other /x /x", "COPY --chown=1:1 train.py ."], {"requirements.txt"}),
        (["ADD https://example.org/x /x", "COPY . ."], {"requirements.txt"}),
        (
            ["RUN --mount=type=bind,source=tool,target=/t sh /t/build.sh", "COPY . ."],
            {"requirements.txt", "tool/build.sh"},
        ),
        (["RUN --mount=type=cache,target=/root/.cache pip install x", "COPY . ."], {"requirements.txt"}),
        (["COPY $WHAT /x"], {"requirements.txt"}),
        ([], {"requirements.txt"}),
    ],
)
def test_everything_but_the_code_is_looked_at(lines: list[str], looked_at: set[str]) -> None:
    assert files(look("\n".join(["FROM base", "WORKDIR /workspace", *lines]))) == looked_at


def test_a_comment_changes_nothing_and_an_instruction_does() -> None:
    item = look("FROM base\nCOPY . .\n")
    assert look("# words\nFROM  base\n\nCOPY . .\n").parts == item.parts
    assert look("FROM base:2\nCOPY . .\n").parts[DOCKERFILE] != item.parts[DOCKERFILE]


def test_the_options_of_the_build_are_part_of_it() -> None:
    text = "FROM base\n"
    assert look(text, options={"args": {"A": "1"}}).parts[OPTIONS] != look(text).parts[OPTIONS]


def test_what_was_made_from_the_code_is_told() -> None:
    found = look("FROM base AS made\nCOPY . /src\nRUN make -C /src\nFROM base\nCOPY --from=made /src /src\n")
    assert found.notes == ("line 3 (RUN make -C /src) ran with the code as it was then",)
    assert look("FROM base\nRUN make\nCOPY . .\n").notes == ()


def test_a_stage_that_is_not_needed_is_not_looked_at() -> None:
    text = "FROM base AS one\nCOPY conf /conf\nRUN x\nFROM base AS two\nCOPY . .\n"
    assert files(look(text)) == {"requirements.txt"}
    assert files(look(text, target="one")) == {"requirements.txt", "conf/app.yaml"}


def test_a_command_has_the_whole_project_as_its_code() -> None:
    text = "FROM base\nWORKDIR /workspace\nCOPY conf /conf\nRUN x\nCOPY . .\n"
    assert files(look(text, script=None)) == {"requirements.txt", "conf/app.yaml"}


def test_a_list_that_is_nested_too_deeply_copies_nothing() -> None:
    assert dev_image("FROM a\nCOPY " + "[" * 50_000, None, ["a"], lambda _: b"").notes == ()
