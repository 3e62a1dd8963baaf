"""What a copy has left out, in words."""

from __future__ import annotations

from runctl.render.left_out import left_out


def test_each_reason_has_its_own_sentence_and_at_most_three_files() -> None:
    assert list(left_out((), ())) == []
    (written,) = left_out((), ("output/train.log",))
    assert written == "not copied, as it was written to whenever it was copied: output/train.log"
    (no_file, written) = left_out(("a", "b", "c", "d"), ("e",))
    assert no_file == "not copied, as it is not a file, or a link that leads out of the folder: a, b, c, ..."
    assert written.endswith(": e")
