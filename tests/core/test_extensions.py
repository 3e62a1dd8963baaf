"""Entry points are found where importlib.metadata finds them, without its cost."""

from __future__ import annotations

import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from runctl.core import extensions
from runctl.core.extensions import Extension

GROUP = "runctl.test_extensions"


def package(root: Path, folder: str, entry_points: str | None) -> None:
    (root / folder).mkdir(parents=True)
    (root / folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {folder.partition('-')[0]}\nVersion: 1\n"
    )
    if entry_points is not None:
        (root / folder / "entry_points.txt").write_text(entry_points)


def asked(group: str) -> set[tuple[str, str]]:
    return {(entry.name, entry.value) for entry in metadata.entry_points(group=group)}


def read(group: str) -> set[tuple[str, str]]:
    return {(entry.name, entry.value) for entry in extensions.entry_points(group)}


@pytest.mark.parametrize("group", ["console_scripts", "pytest11", extensions.PROVIDERS])
def test_the_same_is_found_as_the_standard_library_finds(group: str) -> None:
    assert read(group) == asked(group) != set()


def test_a_package_hides_those_of_its_name_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(
        tmp_path / "first",
        "My_Hosts-2.0.dist-info",
        f"[{GROUP}]\n# a comment\nhosts = hosts.plugin:plugin [ssh]\n",
    )
    package(
        tmp_path / "second", "my_hosts-1.0.dist-info", f"[{GROUP}]\nhosts = old:plugin\nolder = old:other\n"
    )
    package(
        tmp_path / "second", "hidden-1.dist-info", f"[{GROUP}]\nhidden = hidden:plugin\n[other]\nno = no:no\n"
    )
    package(tmp_path / "first", "hidden-2.dist-info", None)
    package(tmp_path / "first", "other.egg-info", f"[other]\nno = no:no\n\n[{GROUP}]\negg=egg:plugin\n")
    monkeypatch.syspath_prepend(tmp_path / "second")
    monkeypatch.syspath_prepend(tmp_path / "first")

    assert read(GROUP) == asked(GROUP) == {("hosts", "hosts.plugin:plugin [ssh]"), ("egg", "egg:plugin")}
    assert {entry.package for entry in extensions.entry_points(GROUP)} == {"my-hosts", "other"}


def test_packages_within_an_archive_are_found_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("packed-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: packed\nVersion: 1\n")
        packed.writestr("packed-1.dist-info/entry_points.txt", f"[{GROUP}]\npacked = packed:plugin\n")
    monkeypatch.syspath_prepend(archive)

    assert read(GROUP) == {("packed", "packed:plugin")}


def test_an_entry_point_leads_to_an_attribute_of_an_attribute() -> None:
    assert Extension("name", "pathlib:Path.home [extra]").load() == Path.home
