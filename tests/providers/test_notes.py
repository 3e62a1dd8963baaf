"""Notes keep nobody from anything: where they cannot be written or read, there are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runctl.providers.notes import Notes
from runctl.testing.progress import RecordedProgress


def test_what_was_noted_is_known_until_it_is_forgotten(tmp_path: Path) -> None:
    notes, progress = Notes(tmp_path / "ended"), RecordedProgress()
    notes.write("vol/1", "text", progress=progress, otherwise="")
    notes.write("vm-2", progress=progress, otherwise="")

    assert (list(notes.all()), notes.has("vol/1"), notes.read("vol/1")) == (["vm-2", "vol_1"], True, b"text")
    notes.forget("vol/1")
    notes.forget("vol/1")
    assert (list(notes.all()), notes.has("vol/1"), notes.read("vol/1")) == (["vm-2"], False, b"")
    assert progress.warnings == []


def test_a_folder_that_may_not_be_entered_has_no_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes, progress = Notes(tmp_path / "ended"), RecordedProgress()
    notes.write("vm-1", progress=progress, otherwise="")
    refused = PermissionError(13, "Permission denied")

    # Root may enter every folder, so that the refusal is put in the places where it comes from.
    def refuse(*_: object, **__: object) -> None:
        raise refused

    for name in ("stat", "lstat", "scandir", "listdir", "open", "mkdir", "unlink"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr("io.open", refuse)

    assert (notes.all(), notes.has("vm-1"), notes.read("vm-1")) == ({}, False, b"")
    notes.forget("vm-1")
    notes.write("vm-1", progress=progress, otherwise="it is not known")
    assert progress.warnings == [f"{notes.folder} cannot be written (Permission denied): it is not known"]
