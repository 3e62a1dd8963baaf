"""What pip is told, uv is told, and the other way round."""

from __future__ import annotations

import pytest

from runctl.agent.environments.installer_settings import (
    for_pip,
    for_uv,
    indexes_of_lock,
    needs_pip,
    options_beyond_uv,
    settings_of_pip,
)


@pytest.mark.parametrize(
    ("pip", "uv"),
    [
        ({"PIP_INDEX_URL": "https://a"}, {"UV_DEFAULT_INDEX": "https://a"}),
        ({"PIP_EXTRA_INDEX_URL": "https://a https://b"}, {"UV_INDEX": "https://a https://b"}),
        ({"PIP_FIND_LINKS": "/a /b"}, {"UV_FIND_LINKS": "/a,/b"}),
        ({"PIP_NO_INDEX": "1"}, {"UV_NO_INDEX": "1"}),
        ({"PIP_PRE": "1"}, {"UV_PRERELEASE": "allow"}),
        ({"PIP_TRUSTED_HOST": "h"}, {"UV_INSECURE_HOST": "h"}),
    ],
)
def test_both_installers_are_told_the_same(pip: dict[str, str], uv: dict[str, str]) -> None:
    assert uv.items() <= for_uv(pip).items()
    assert pip.items() <= for_pip(uv).items()


def test_what_an_installer_is_told_itself_comes_first() -> None:
    assert for_uv({"PIP_INDEX_URL": "a", "UV_INDEX_URL": "b"}).get("UV_DEFAULT_INDEX") is None
    assert for_pip({"PIP_INDEX_URL": "a", "UV_INDEX_URL": "b"})["PIP_INDEX_URL"] == "a"
    assert for_uv({"UV_INDEX_STRATEGY": "first-index"})["UV_INDEX_STRATEGY"] == "first-index"
    assert "UV_NO_INDEX" not in for_uv({"PIP_NO_INDEX": "false"})
    assert for_pip({"UV_INDEX": "gpu=https://a"})["PIP_EXTRA_INDEX_URL"] == "https://a"


def test_the_best_version_of_all_indexes_is_taken_as_pip_does() -> None:
    assert for_uv({})["UV_INDEX_STRATEGY"] == "unsafe-best-match"


def test_settings_of_pip_are_read_the_last_file_first() -> None:
    texts = ["[global]\nindex-url = a\nextra-index-url =\n  b\n  c\n", "[install]\nindex-url = d\n", "broken"]

    assert settings_of_pip(texts) == {"PIP_INDEX_URL": "d", "PIP_EXTRA_INDEX_URL": "b c"}


def test_options_that_only_pip_honours_are_found_in_included_files_too() -> None:
    files = {
        "requirements.txt": "-i https://x # --pre\n-r sub/more.txt\nnumpy==1 --hash=sha256:00 \\\n  --hash=sha256:11\n",
        "sub/more.txt": "--pre\n-r ../requirements.txt\ntorch-geometric @ https://h/a--b.whl\n-e ./x\n",
    }

    assert options_beyond_uv("requirements.txt", files.get) == {"--pre"}


def test_variables_without_an_equal_in_uv_are_for_pip() -> None:
    assert needs_pip({"PIP_ONLY_BINARY": ":all:"})
    assert not needs_pip({"PIP_PREFER_BINARY": "0"})


def test_the_author_s_own_indexes_of_a_lock_are_named() -> None:
    lock = (
        'source = { registry = "https://pypi.org/simple" }\nsource = { registry = "https://m/simple" }\n' * 2
    )

    assert indexes_of_lock(lock, "") == ("https://m/simple",)
    assert indexes_of_lock(lock, 'url = "https://m/simple/"') == ()
