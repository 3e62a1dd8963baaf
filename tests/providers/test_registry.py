"""Providers are found by entry point; one that does not work says whose it is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runctl.core import extensions
from runctl.core.config import Config
from runctl.core.errors import NotFound, Unsupported
from runctl.core.machine_models import InstanceState
from runctl.providers import registry
from runctl.providers.interface import Provider
from runctl.providers.plugin import ALL_VERBS, STOP_VERBS, ProviderPlugin
from tests.cli.fake_provider import an_instance


def test_the_providers_of_this_package_are_there() -> None:
    assert {"aws", "local"} <= set(registry.names())


def test_a_provider_is_made_from_the_configuration() -> None:
    assert registry.load("local", Config()).name == "local"


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(NotFound) as caught:
        registry.load("asw", Config())

    assert caught.value.hint == 'did you mean "aws"?'


def test_hints_are_made_of_a_providers_own_verbs() -> None:
    assert registry.command("local", "train", "train.py") == "runctl local train train.py"
    assert registry.volume_command("aws", "list") == "runctl aws ebs list"
    assert registry.volume_command("not-installed", "list") == "runctl not-installed volumes list"


@pytest.mark.parametrize(
    ("provider", "state", "hint"),
    [
        ("aws", InstanceState.STOPPED, "runctl aws start m"),
        ("aws", InstanceState.PENDING, "runctl aws wait m"),
        ("aws", InstanceState.TERMINATED, "runctl aws list shows those that run"),
        (
            "lyceum",
            InstanceState.STOPPED,
            "lyceum cannot start it again: runctl lyceum terminate m ends it, runctl lyceum create makes another one",
        ),
        ("local", InstanceState.STOPPED, "runctl local list shows those that run"),
        ("local", InstanceState.PENDING, "runctl local list shows those that run"),
    ],
)
def test_a_machine_that_does_not_run_is_told_a_command_that_its_provider_has(
    provider: str, state: InstanceState, hint: str
) -> None:
    assert registry.when_not_running(an_instance("m", provider=provider, state=state)) == hint


def test_every_command_that_a_hint_names_is_there() -> None:
    """By the two ways to name one: ``command(provider, "verb", …)`` and ``f"runctl {provider} verb …"``."""
    named = re.compile(r"(?<![.\w])command\(\s*[\w.]+,\s*f?[\"']([a-z-]+)|runctl \{[\w.]+\} ([a-z-]+)")
    sources = Path(registry.__file__).parents[1].rglob("*.py")
    verbs = {a or b for path in sources for a, b in named.findall(path.read_text(encoding="utf-8"))}

    assert {"terminate", "wait", "list", "status"} <= verbs
    assert verbs <= {*ALL_VERBS, *registry.plugin("aws").commands}
    # Not every provider that rents has these: `has_verb` is asked first.
    assert not verbs & {*STOP_VERBS, "ssh"}


@pytest.mark.parametrize(
    ("instance", "owner"), [("i-0123456789abcdef0", "aws"), ("local", "local"), ("digits", None)]
)
def test_an_instances_owner_is_told_from_the_form_of_its_id(instance: str, owner: str | None) -> None:
    assert registry.owner_of(instance) == owner


def test_an_id_is_told_from_a_name_by_how_it_begins() -> None:
    found = registry.id_like("volume", "vol-nonsense")

    assert found is not None
    assert found.example == "vol-0123456789abcdef0"
    assert registry.id_like("volume", "datasets") is None


def test_only_the_provider_of_this_computer_is_this_computer() -> None:
    assert registry.is_this_computer("local")
    assert not registry.is_this_computer("aws")
    assert not registry.is_this_computer("not-installed")


def test_a_registry_is_found_by_the_name_that_its_provider_gives_it(plug_in: Any) -> None:
    assert (registry.registry_owner("ecr"), registry.registry_owner("ghcr.io/ada/digits")) == ("aws", None)
    assert registry.usual_registry("local") == "ecr"  # it has none, so that the default provider's is meant

    plug_in("tests.providers.test_registry:WITH_REGISTRY")
    assert registry.registry_owner("shelf") == "mine"
    assert registry.usual_registry("mine") == "shelf"
    assert extensions.registries() == {"shelf"}


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(value: str) -> None:
        entry = extensions.Extension("mine", value)
        monkeypatch.setattr(extensions, "installed", lambda: {"mine": (entry,)})
        extensions.loaded.cache_clear()

    yield install
    extensions.loaded.cache_clear()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no_such_module:provider", "ModuleNotFoundError"),
        ("json:no_such_factory", "AttributeError"),
        ("tests.providers.test_registry:explode", "not to a ProviderPlugin"),
        ("tests.providers.test_registry:MISNAMED", "called 'another'"),
        ("tests.providers.test_registry:EXPLODES", "ZeroDivisionError"),
        ("tests.providers.test_registry:MAKES_A_NUMBER", "not a Provider"),
    ],
)
def test_a_broken_plug_in_names_itself(plug_in: Any, value: str, said: str) -> None:
    plug_in(value)

    with pytest.raises(Unsupported, match=f"mine.*{value}.*{said}"):
        registry.load("mine", Config())


def explode(_: Config) -> Provider:
    raise ZeroDivisionError


def a_number(_: Config) -> Any:
    return 1


EXPLODES = ProviderPlugin("mine", "It does not work.", explode)
MAKES_A_NUMBER = ProviderPlugin("mine", "It does not work either.", a_number)
WITH_REGISTRY = ProviderPlugin("mine", "It has an image registry.", explode, registry="shelf")
MISNAMED = ProviderPlugin("another", "It is not called as its entry point.", a_number)


def test_a_provider_is_made_without_loading_boto3() -> None:
    program = (
        "import sys; from runctl.core.config import Config; from runctl.providers import registry;"
        "registry.load('aws', Config()); registry.load('local', Config());"
        "sys.exit(','.join(m for m in ('boto3', 'botocore') if m in sys.modules) or 0)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
