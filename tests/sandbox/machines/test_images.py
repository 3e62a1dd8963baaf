"""Base images without Docker Hub: built once, kept, honest about what they are."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runctl.core.errors import MachineError, Unsupported
from runctl.sandbox.ecr.registry import Registry
from runctl.sandbox.machines import base_layers, images
from tests.availability import missing_programs

needs_debian = pytest.mark.skipif(bool(missing_programs("dpkg-deb")), reason=missing_programs("dpkg-deb"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNCTL_IMAGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def busybox() -> images.StoredImage:
    (image,) = images.store(recipes=[images.BUSYBOX])
    return image


def layer(image: images.StoredImage) -> tarfile.TarFile:
    return tarfile.open(image.layer)


@needs_debian
def test_busybox_has_a_static_shell(busybox: images.StoredImage, tmp_path: Path) -> None:
    with layer(busybox) as tar:
        # Debian's Python 3.11 knows no filters yet; it is an image of our own.
        tar.extraction_filter = lambda member, _: member
        tar.extractall(tmp_path)
    if os.geteuid() == 0:
        command = ["chroot", str(tmp_path), "/bin/sh", "-c", "echo from the image | tr a-z A-Z"]
        assert subprocess.check_output(command, text=True) == "FROM THE IMAGE\n"
    assert (tmp_path / "bin/sh").readlink() == Path("busybox")


@needs_debian
def test_busybox_says_that_it_is_a_stand_in(busybox: images.StoredImage) -> None:
    with layer(busybox) as tar:
        release = tar.extractfile("etc/os-release")
        assert release is not None
        assert b"stand-in" in release.read()
    assert "not Docker's image" in json.loads(busybox.config)["config"]["Labels"][images.LABEL]


@needs_debian
def test_manifest_config_and_layer_agree(busybox: images.StoredImage) -> None:
    manifest, config = json.loads(busybox.manifest), json.loads(busybox.config)
    packed = busybox.layer.read_bytes()

    assert manifest["config"]["digest"] == f"sha256:{hashlib.sha256(busybox.config).hexdigest()}"
    assert manifest["layers"][0]["digest"] == f"sha256:{hashlib.sha256(packed).hexdigest()}"
    assert manifest["layers"][0]["size"] == len(packed)
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(gzip.decompress(packed)).hexdigest()}"]


@needs_debian
def test_an_image_is_built_once(cache: Path) -> None:
    (first,) = images.store(recipes=[images.BUSYBOX])
    built = first.layer.stat().st_mtime_ns

    (second,) = images.store(recipes=[images.BUSYBOX])

    assert second.layer.stat().st_mtime_ns == built
    assert first.folder.parent == cache


@needs_debian
def test_two_programs_at_once_build_it_once(cache: Path) -> None:
    found: list[int] = []

    def build() -> None:
        found.extend(image.layer.stat().st_ino for image in images.store(recipes=[images.BUSYBOX]))

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 3
    assert len(set(found)) == 1


@needs_debian
def test_a_build_that_fails_leaves_nothing_in_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MachineError("the disk is full")

    monkeypatch.setattr(images, "_describe", fail)

    with pytest.raises(MachineError, match="disk is full"):
        images.store(recipes=[images.BUSYBOX])

    assert [path.suffix for path in cache.iterdir()] == [".lock"]


@needs_debian
def test_what_a_killed_build_left_is_removed_by_the_next(cache: Path) -> None:
    left = cache / f"busybox-{images.key(images.BUSYBOX)}.killed"
    (left / "root").mkdir(parents=True)

    images.store(recipes=[images.BUSYBOX])

    assert not left.exists()


@pytest.mark.root
@pytest.mark.linux
def test_an_archive_that_does_not_answer_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := missing_programs("debootstrap", "unshare"):
        pytest.skip(reason)
    monkeypatch.setattr(base_layers, "debian_mirror", lambda: "http://127.0.0.1:9/debian")

    with pytest.raises(MachineError, match=r"debootstrap ended with 1: .*127\.0\.0\.1:9"):
        images.store(recipes=[images.PYTHON])

    assert [path.suffix for path in cache.iterdir()] == [".lock"]


@needs_debian
def test_a_pushed_image_is_in_the_registry_under_each_tag(
    registry: Registry, busybox: images.StoredImage
) -> None:
    registry.start()

    images.push(busybox, registry)

    assert registry.tags("library/busybox") == ("latest", "stable")


@needs_debian
def test_pushing_again_sends_nothing(registry: Registry, busybox: images.StoredImage, tmp_path: Path) -> None:
    registry.start()
    images.push(busybox, registry)
    without_layer = tmp_path / "copy"
    shutil.copytree(busybox.folder, without_layer, ignore=shutil.ignore_patterns("layer*"))

    images.push(images.StoredImage(busybox.recipe, without_layer), registry)


def test_without_a_place_of_its_own_the_cache_is_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RUNCTL_IMAGE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert images.default_cache() == tmp_path / "runctl/images"


def test_a_computer_without_debootstrap_is_told_what_to_install(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Unsupported) as raised:
        images.store(recipes=[images.PYTHON])

    assert "debootstrap" in raised.value.hint


def test_an_ordinary_user_is_told_that_bootstrapping_needs_root(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(Unsupported, match="needs root"):
        images.store(recipes=[images.PYTHON])


def test_another_certificate_bundle_is_another_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keys = set()
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / name))
        keys.add(images.key(images.PYTHON))

    assert len(keys) == 2


@pytest.mark.parametrize(
    ("name", "text", "mirror"),
    [
        (
            "sources.list",
            "deb http://mirror.example/debian bookworm main contrib\n",
            "http://mirror.example/debian",
        ),
        ("sources.list", "deb [signed-by=/k] http://a.example/d bookworm main\n", "http://a.example/d"),
        ("sources.list", "# deb http://a.example/d bookworm main\n", None),
        ("sources.list", "deb http://a.example/d bookworm-security main\n", None),
        ("sources.list", "deb http://a.example/ubuntu noble main\n", None),
        (
            "sources.list.d/debian.sources",
            (
                "Types: deb deb-src\n# a note: here\nURIs: https://b.example/debian\n"
                "Suites: bookworm bookworm-updates\nComponents: main\n"
            ),
            "https://b.example/debian",
        ),
        (
            "sources.list.d/debian.sources",
            "Enabled: no\nTypes: deb\nURIs: https://b.example/debian\nSuites: bookworm\nComponents: main\n",
            None,
        ),
        (
            "sources.list.d/debian.sources.off",
            "Types: deb\nURIs: https://b.example/debian\nSuites: bookworm\nComponents: main\n",
            None,
        ),
    ],
)
def test_the_mirror_is_the_one_that_apt_uses(
    tmp_path: Path, name: str, text: str, mirror: str | None
) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / name).write_text(text)

    assert base_layers.debian_mirror("bookworm", tmp_path) == mirror


@pytest.fixture(scope="module")
def python_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if reason := missing_programs("debootstrap"):
        pytest.skip(reason)
    (image,) = images.store(recipes=[images.PYTHON])
    root = tmp_path_factory.mktemp("python")
    subprocess.run(["tar", "-C", str(root), "-xzf", str(image.layer)], check=True)
    config = json.loads(image.config)["config"]
    assert config["Labels"][images.LABEL].startswith("stand-in")
    (root / "env").write_text("\n".join(config["Env"]))
    yield root
    shutil.rmtree(root)


def inside(root: Path, *command: str) -> str:
    environment = dict(line.split("=", 1) for line in (root / "env").read_text().splitlines())
    done = subprocess.run(
        ["chroot", str(root), *command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.root
def test_the_python_image_has_python_and_pip_under_their_usual_names(python_root: Path) -> None:
    assert inside(python_root, "python", "-c", "import sys, ssl; print(sys.version_info[:2])") == "(3, 11)\n"
    assert "python 3.11" in inside(python_root, "pip", "--version")


@pytest.mark.root
def test_the_python_image_makes_environments_with_pip(python_root: Path) -> None:
    inside(python_root, "python", "-m", "venv", "/venv")

    assert "/venv" in inside(python_root, "/venv/bin/pip", "--version")


@pytest.mark.root
def test_the_python_image_trusts_what_this_computer_trusts(python_root: Path) -> None:
    bundle = base_layers.host_bundle()
    assert bundle is not None

    count = "import ssl; print(len(ssl.create_default_context().get_ca_certs()))"
    expected = subprocess.check_output(
        [
            "python3",
            "-c",
            f"import ssl; print(len(ssl.create_default_context(cafile={str(bundle)!r}).get_ca_certs()))",
        ],
        text=True,
    )
    assert inside(python_root, "python", "-c", count) == expected


@pytest.mark.root
def test_the_python_image_is_not_managed_by_others_and_says_what_it_is(python_root: Path) -> None:
    assert not list(python_root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"))
    assert "stand-in" in inside(python_root, "cat", "/etc/os-release")
