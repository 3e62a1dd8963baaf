"""What docker pull draws, as numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runctl.agent.images.pull_progress import PullProgress, parse_size

A, B, C = "b70be912a96d", "e8293cf80e77", "db53ff82457f"


def drawn(layer: str, text: str, up: int = 1) -> bytes:
    return f"\x1b[{up}A\x1b[2K\r{layer}: {text}\r\x1b[{up}B".encode()


def bar(done: str, total: str) -> str:
    return f"Downloading [=====>                  ]  {done}/{total}"


BEGUN = (
    b"1: Pulling from t/big\r\n\r\n"
    + drawn(A, "Already exists ")
    + drawn(B, "Pulling fs layer ")
    + drawn(C, "Waiting ")
)


def test_layers_and_bytes_are_counted() -> None:
    progress = PullProgress()
    progress.feed(BEGUN + drawn(B, bar("4.732MB", "15MB"), up=3) + drawn(C, bar("269.3kB", "25.01MB")))
    assert progress.numbers() == (1, 3, 4_732_000 + 269_300, 40_010_000, True)
    assert str(progress) == "layer 2 of 3, 5 of 40 MB"


def test_a_size_that_is_not_known_yet_is_said() -> None:
    progress = PullProgress()
    progress.feed(BEGUN + drawn(B, bar("4.7MB", "15MB")))
    assert str(progress) == "layer 2 of 3, 5 of at least 15 MB"


def test_before_the_registry_answers_there_is_nothing_to_count() -> None:
    assert str(PullProgress()) == "waiting for the registry"


def test_drawing_the_same_again_is_no_progress() -> None:
    progress = PullProgress()
    assert progress.feed(BEGUN + drawn(B, bar("1MB", "15MB")))
    assert not progress.feed(drawn(B, bar("1MB", "15MB")))
    assert not progress.feed(drawn(B, "Retrying in 5 seconds "))
    assert not progress.feed(drawn(B, "Retrying in 4 seconds "))
    assert progress.feed(drawn(B, bar("1.1MB", "15MB")))


def test_unpacking_moves_without_a_byte_arriving() -> None:
    progress = PullProgress()
    progress.feed(
        BEGUN
        + drawn(B, "Download complete ")
        + drawn(C, bar("25MB", "25MB"))
        + drawn(C, "Download complete ")
    )
    assert progress.feed(drawn(C, "Extracting [>    ]  262.1kB/25.01MB"))
    assert progress.feed(drawn(C, "Extracting [=>   ]  524.2kB/25.01MB"))


def test_what_is_no_progress_is_kept_for_the_error() -> None:
    progress = PullProgress()
    progress.feed(b"Error response from daemon: manifest for x:1 not found: manifest unknown\r\n")
    progress.close()
    assert progress.messages == ["Error response from daemon: manifest for x:1 not found: manifest unknown"]


@given(st.lists(st.integers(0, 400), max_size=8), st.binary(max_size=40))
def test_it_does_not_matter_where_the_stream_is_cut(cuts: list[int], noise: bytes) -> None:
    stream = BEGUN + drawn(B, bar("4.732MB", "15MB")) + drawn(C, "Pull complete ") + noise
    whole, pieces = PullProgress(), PullProgress()
    whole.feed(stream)
    whole.close()
    at = 0
    for cut in sorted(cuts):
        pieces.feed(stream[at:cut] if cut > at else b"")
        at = max(at, cut)
    pieces.feed(stream[at:])
    pieces.close()
    assert pieces.numbers() == whole.numbers()


def test_docker_counts_in_thousands() -> None:
    assert [parse_size(text) for text in ("0B", "512B", "163.8kB", "25.01MB", "1.2GB")] == [
        0,
        512,
        163_800,
        25_010_000,
        1_200_000_000,
    ]
