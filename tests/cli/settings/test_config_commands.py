"""``config`` and ``init``."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from runctl.core.config import load
from runctl.core.config.files import user_config_path
from runctl.providers.aws.settings import AwsConfig
from tests.cli.conftest import Invoke, data_of, error_of

FILE = Path(".runctl.toml")


def test_show_says_where_each_value_comes_from(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    FILE.write_text('[aws]\nzone = "eu-west-1a"\n')
    monkeypatch.setenv("RUNCTL_AWS_SPOT", "true")
    shown = data_of(invoke("config", "show", "--region", "eu-west-1", "--output", "json"))
    assert shown["aws.region"] == {"value": "eu-west-1", "origin": "--region"}
    assert shown["aws.spot"] == {"value": True, "origin": "RUNCTL_AWS_SPOT"}
    assert shown["aws.zone"] == {"value": "eu-west-1a", "origin": str(FILE.absolute())}
    assert shown["train.grace"] == {"value": "30s", "origin": "default"}


@pytest.mark.parametrize("flags", [(), ("--output", "json"), ("--quiet",), ("--verbose",)])
def test_show_never_prints_a_secret(invoke: Invoke, flags: tuple[str, ...]) -> None:
    FILE.write_text(
        '[train.env]\nWANDB_API_KEY = "hunter2"\nDB = "postgres://u:hunter2@db/x"\nEPOCHS = "3"\n'
    )
    result = invoke("config", "show", *flags)
    assert "hunter2" not in result.stdout + result.stderr
    assert "EPOCHS" in result.stdout


def test_show_works_beside_a_mistake_and_says_it(invoke: Invoke) -> None:
    FILE.write_text('[aws]\nregoin = "x"\nzone = "a"\n')
    result = invoke("config", "show")
    assert result.exit_code == 0
    assert "aws.regoin: unknown key" in result.stderr


def test_set_makes_the_file_and_later_commands_read_it(invoke: Invoke) -> None:
    assert (
        data_of(invoke("config", "set", "aws.region", "eu-west-1", "--output", "json"))["value"]
        == "eu-west-1"
    )
    assert load(Path.cwd()).section(AwsConfig).region == "eu-west-1"


def test_set_takes_values_that_begin_with_a_dash_after_two(invoke: Invoke) -> None:
    assert invoke("config", "set", "train.env.FLAGS", "--", "-O2").exit_code == 0
    assert load(Path.cwd()).train.env == {"FLAGS": "-O2"}


@pytest.mark.parametrize(
    "argv",
    [("aws.root_volume_size", "-5"), ("train.grace", "-5s"), ("train.grace", "-.5", "--user")],
)
def test_a_value_below_zero_is_refused_as_a_value(invoke: Invoke, argv: tuple[str, ...]) -> None:
    error = error_of(invoke("config", "set", *argv, "--output", "json"))

    assert argv[0] in error["message"]
    assert "option" not in error["message"]


def test_set_changes_the_file_that_is_in_use(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    FILE.write_text("[aws]\nspot = false\n")
    deep = Path.cwd() / "a" / "b"
    deep.mkdir(parents=True)
    here = FILE.absolute()
    monkeypatch.chdir(deep)
    invoke("config", "set", "aws.spot", "true")
    assert here.read_text() == "[aws]\nspot = true\n"
    assert list(deep.iterdir()) == []


def test_set_changes_pyproject_where_that_is_in_use(invoke: Invoke) -> None:
    Path("pyproject.toml").write_text("[tool.runctl.aws]\nspot = false\n")
    invoke("config", "set", "aws.spot", "true")
    assert Path("pyproject.toml").read_text() == "[tool.runctl.aws]\nspot = true\n"
    assert not FILE.exists()


def test_set_for_the_user(invoke: Invoke) -> None:
    invoke("config", "set", "--user", "aws.profile", "research")
    assert tomllib.loads(user_config_path().read_text()) == {"aws": {"profile": "research"}}
    assert not FILE.exists()


def test_set_hides_a_secret_it_stored(invoke: Invoke) -> None:
    result = invoke("config", "set", "train.env.HF_TOKEN", "hunter2")
    assert "hunter2" not in result.stdout + result.stderr
    assert "hunter2" in FILE.read_text()


@pytest.mark.parametrize(("key", "value", "code"), [("aws.spt", "true", 2), ("aws.spot", "maybe", 3)])
def test_set_refuses_what_does_not_fit(invoke: Invoke, key: str, value: str, code: int) -> None:
    assert invoke("config", "set", key, value).exit_code == code
    assert not FILE.exists()


def test_validate_lists_every_problem_and_fails(invoke: Invoke) -> None:
    FILE.write_text('[aws]\nregoin = "x"\nspot = 3\n')
    result = invoke("config", "validate")
    assert result.exit_code == 3
    first, second = result.stdout.splitlines()
    assert first.endswith('.runctl.toml:2: aws.regoin: unknown key (did you mean "region"?)')
    assert second.endswith(".runctl.toml:3: aws.spot: expected true or false, not the number 3")


def test_validate_of_nothing_is_fine(invoke: Invoke) -> None:
    assert data_of(invoke("config", "validate", "--output", "json")) == {
        "valid": True,
        "files": [],
        "problems": [],
    }


def test_a_command_beside_a_broken_file_is_exit_code_3_and_json(invoke: Invoke) -> None:
    FILE.write_text("[aws]\nspot = 3\nzone = 4\n")
    error = error_of(invoke("aws", "list", "--output", "json"))
    assert error["code"] == "config"
    assert ".runctl.toml:2: aws.spot: expected true or false" in error["message"]
    assert error["message"].endswith("(and 1 more: runctl config validate)")


@pytest.mark.parametrize("named", ["--config", "RUNCTL_CONFIG"])
def test_a_named_file_is_used_by_every_command(
    invoke: Invoke, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.toml"
    other.write_text('[aws]\nregion = "other"\n')
    flags = ["--config", str(other)] if named == "--config" else []
    if not flags:
        monkeypatch.setenv("RUNCTL_CONFIG", str(other))
    assert data_of(invoke("config", "show", *flags, "--output", "json"))["aws.region"]["value"] == "other"
    invoke("config", "set", "aws.region", "new", *flags)
    assert 'region = "new"' in other.read_text()


def test_init_writes_a_file_that_is_valid_in_every_line(invoke: Invoke) -> None:
    result = invoke("init")
    assert result.exit_code == 0
    text = FILE.read_text()
    assert invoke("config", "validate").exit_code == 0
    uncommented = "\n".join(
        line.removeprefix("# ") if line.startswith("# ") and " = " in line and "runctl" not in line else line
        for line in text.splitlines()
    )
    FILE.write_text(uncommented)
    assert invoke("config", "trust").exit_code == 0
    validated = invoke("config", "validate")
    assert (validated.exit_code, validated.stdout) == (0, f"nothing is wrong in {FILE.absolute()}\n")
    assert len(tomllib.loads(uncommented)) == 8


def test_the_template_stays_valid_with_a_dockerfile(invoke: Invoke) -> None:
    Path("Dockerfile").touch()
    invoke("init")
    assert "enabled" in FILE.read_text()
    assert invoke("config", "validate").exit_code == 0


def test_init_writes_at_the_projects_root_whatever_the_folder(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path.cwd()
    (root / "src").mkdir()
    monkeypatch.chdir(root / "src")
    assert invoke("init", "-q").stdout == f"{root / FILE}\n"
    assert 'name = "project"' in (root / FILE).read_text()


def test_init_does_not_overwrite_without_being_told(invoke: Invoke) -> None:
    FILE.write_text("# mine\n")
    assert invoke("init").exit_code == 2
    assert FILE.read_text() == "# mine\n"


@pytest.mark.parametrize("flag", ["--force", "--yes"])
def test_init_overwrites_when_told(invoke: Invoke, flag: str) -> None:
    FILE.write_text("# mine\n")
    assert invoke("init", flag).exit_code == 0
    assert "# mine" not in FILE.read_text()


def test_init_makes_no_second_file_beside_a_table_in_pyproject(invoke: Invoke) -> None:
    Path("pyproject.toml").write_text("[tool.runctl.aws]\nspot = true\n")
    assert invoke("init").exit_code == 1
    assert not FILE.exists()


def test_init_names_the_project_after_its_folder_in_letters_that_tags_take(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / 'my "great" project!'
    (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(folder)
    invoke("init")
    assert load(Path.cwd()).project.name == "my-great-project"


def test_a_project_that_came_along_is_trusted_once_and_shown(invoke: Invoke) -> None:
    FILE.write_text('[aws]\nami_id = "ami-1"\n[docker]\nregistry = "ecr"\n')
    refused = invoke("config", "validate")
    assert refused.exit_code == 3
    assert ".runctl.toml:2: aws.ami_id: it decides what runs with your rights" in refused.stdout
    assert "aws.ami_id" not in invoke("config", "show", "--quiet").stdout.replace("aws.ami_id=\n", "")

    assert invoke("config", "trust").stdout == f"aws.ami_id = ami-1\ntrusted: {FILE.absolute()}\n"
    assert invoke("config", "validate").exit_code == 0
    # What is set here is trusted by whoever sets it.
    assert invoke("config", "set", "aws.ami_id", "ami-2").exit_code == 0
    assert load(Path.cwd()).section(AwsConfig).ami_id == "ami-2"

    assert data_of(invoke("config", "trust", "--revoke", "--output", "json"))["trusted"] == {}
    assert invoke("config", "validate").exit_code == 3
    # Setting one value does not trust the others.
    assert invoke("config", "set", "aws.profile", "mine").exit_code == 0
    assert invoke("config", "validate").exit_code == 3


def test_there_is_nothing_to_trust_where_there_is_no_file(invoke: Invoke) -> None:
    assert error_of(invoke("config", "trust", "--output", "json"))["code"] == "not-found"
    FILE.write_text("[aws]\nspot = true\n")
    assert "needs trust" in invoke("config", "trust").stdout


def test_no_file_at_all_is_said_in_plain_words(invoke: Invoke) -> None:
    result = invoke("config", "validate")
    assert result.stdout == "there is no configuration file; the defaults and variables are right\n"


def test_a_folder_in_the_files_place_is_a_problem(invoke: Invoke) -> None:
    Path(".runctl.toml").mkdir()
    result = invoke("config", "validate")
    assert result.exit_code == 3
    assert "it is a folder, and a configuration file is needed there" in result.stdout


def test_the_hint_names_the_check_once(invoke: Invoke) -> None:
    Path(".runctl.toml").write_text("[aws]\nspot = 1\nregion = 2\n")
    refused = invoke("aws", "list")
    assert refused.stderr.count("runctl config validate") == 1
