"""Layers, origins and problems of configuration."""

from __future__ import annotations

import dataclasses
import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.core.config import (
    Config,
    ProjectConfig,
    load,
    read,
    read_file,
    rules,
    sections,
    values_to_trust,
)
from runctl.core.config.files import ConfigFile
from runctl.core.config.trust import distrust, trust
from runctl.core.errors import ConfigError
from runctl.providers.aws.settings import AwsConfig


def aws_of(config: Config) -> AwsConfig:
    return config.section(AwsConfig)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / ".git").mkdir(parents=True)
    return folder


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    return tmp_path / "user" / "config.toml"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_without_any_layer_the_defaults_hold(project: Path, user_file: Path) -> None:
    assert load(project, environ={}, user_file=user_file) == Config()


def test_each_layer_outranks_the_one_below_key_by_key(project: Path, user_file: Path) -> None:
    write(user_file, '[aws]\nregion = "user"\nzone = "user"\nsubnet = "user"\nami_id = "user"\n')
    write(project / ".runctl.toml", '[aws]\nregion = "file"\nzone = "file"\nsubnet = "file"\n')
    environ = {"RUNCTL_AWS_REGION": "variable", "RUNCTL_AWS_ZONE": "variable"}
    config = load(project, environ=environ, user_file=user_file, flags={"aws.region": ("flag", "--region")})
    assert aws_of(config) == AwsConfig(region="flag", zone="variable", subnet="file", ami_id="user")
    assert config.origin("aws.region") == "--region"
    assert config.origin("aws.zone") == "RUNCTL_AWS_ZONE"
    assert config.origin("aws.subnet") == str(project / ".runctl.toml")
    assert config.origin("aws.ami_id") == str(user_file)
    assert config.origin("aws.spot") == "default"


def test_maps_are_merged_by_their_own_keys(project: Path, user_file: Path) -> None:
    write(user_file, '[train.env]\nA = "user"\nB = "user"\n')
    write(project / ".runctl.toml", '[train.env]\nB = "file"\n')
    assert load(project, environ={}, user_file=user_file).train.env == {"A": "user", "B": "file"}


def test_the_file_is_found_from_a_folder_deep_in_the_project(project: Path, user_file: Path) -> None:
    write(project / ".runctl.toml", '[aws]\nregion = "eu-west-1"\n')
    deep = project / "a" / "b"
    deep.mkdir(parents=True)
    assert aws_of(load(deep, environ={}, user_file=user_file)).region == "eu-west-1"


def test_the_search_ends_at_the_projects_root(project: Path, user_file: Path, tmp_path: Path) -> None:
    write(tmp_path / ".runctl.toml", '[aws]\nregion = "elsewhere"\n')
    assert aws_of(load(project, environ={}, user_file=user_file)).region is None


def test_a_file_in_a_folder_that_everybody_may_write_to_configures_nobody(
    tmp_path: Path, user_file: Path
) -> None:
    shared = tmp_path / "shared"
    work = shared / "work"
    work.mkdir(parents=True)
    write(shared / ".runctl.toml", '[aws]\nregion = "planted"\n')
    shared.chmod(0o1777)
    assert aws_of(load(work, environ={}, user_file=user_file)).region is None


def test_a_file_in_the_home_folder_is_no_projects(
    tmp_path: Path, user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / ".runctl.toml", '[aws]\nregion = "home"\n')
    (tmp_path / "work").mkdir()
    assert aws_of(load(tmp_path / "work", environ={}, user_file=user_file)).region is None
    assert aws_of(load(tmp_path, environ={}, user_file=user_file)).region == "home"


def test_pyproject_may_hold_the_configuration(project: Path, user_file: Path) -> None:
    write(project / "pyproject.toml", '[project]\nname = "x"\n\n[tool.runctl.aws]\nregion = "eu-west-1"\n')
    assert aws_of(load(project, environ={}, user_file=user_file)).region == "eu-west-1"


def test_a_broken_pyproject_of_somebody_else_is_not_our_problem(project: Path, user_file: Path) -> None:
    write(project / "pyproject.toml", "[project\n# depends on runctl\n")
    assert read(project, environ={}, user_file=user_file).problems == ()


def test_two_project_files_side_by_side_are_a_problem(project: Path, user_file: Path) -> None:
    write(project / "pyproject.toml", "[tool.runctl.aws]\nspot = true\n")
    write(project / ".runctl.toml", "[aws]\nspot = true\n")
    (problem,) = read(project, environ={}, user_file=user_file).problems
    assert "pyproject.toml beside it" in problem.text()


@pytest.mark.parametrize(
    ("text", "line", "key", "phrase"),
    [
        ('[aws]\n\n# where\nregoin = "x"\n', 4, "aws.regoin", "unknown key"),
        ("[asw]\nspot = true\n", 1, "asw", "unknown section"),
        ("[aws]\nregion = 5\n", 2, "aws.region", "expected text in quotes, not the number 5"),
        ('[aws]\nspot = "yes"\n', 2, "aws.spot", 'expected true or false, not the text "yes"'),
        ("[sync]\nmax_files = 0\n", 2, "sync.max_files", "at least 1"),
        (f'[aws]\nttl = "{"9" * 400}d"\n', 2, "aws.ttl", "a duration"),
        ("[sync]\nmax_files = true\n", 2, "sync.max_files", "not true"),
        ('[aws]\ntransport = "telnet"\n', 2, "aws.transport", 'one of "auto", "ssh", "ssm"'),
        ('[aws]\nttl = "soon"\n', 2, "aws.ttl", "a duration"),
        ('[aws]\nsecurity_groups = "sg-1"\n', 2, "aws.security_groups", "a list of texts"),
        ("[ebs]\nmount_points = [\n  1,\n]\n", 2, "ebs.mount_points", "the number 1"),
        ('[docker]\nworkdir = "here"\n', 2, "docker.workdir", "an absolute path"),
        ('[train.env]\nA = "x"\nB = 3\n', 3, "train.env.B", "not the number 3"),
        ('aws = "x"\n', 1, "aws", "expected a section [aws]"),
        ('[aws]\nregion = ""\n', 2, "aws.region", "empty"),
        ('[budget]\nday = "25eur"\n', 2, "budget.day", "US dollars, such as 25 or \"25usd\", not '25eur'"),
        ("[budget]\nwarn_at = 80\n", 2, "budget.warn_at", "a share from 0 to 1, such as 0.8, not 80"),
        ('[aws]\nzone = """\n[a]\n"""\nzoen = "x"\n', 5, "aws.zoen", "unknown key"),
    ],
)
def test_every_problem_names_file_line_and_key(
    project: Path, user_file: Path, text: str, line: int, key: str, phrase: str
) -> None:
    file = write(project / ".runctl.toml", text)
    (problem,) = read(project, environ={}, user_file=user_file).problems
    assert (problem.where, problem.line, problem.key) == (str(file), line, key)
    assert phrase in problem.message
    with pytest.raises(ConfigError, match=f":{line}: ") as caught:
        load(project, environ={}, user_file=user_file)
    assert caught.value.exit_code == 3


def test_lines_in_pyproject_count_from_its_first(project: Path, user_file: Path) -> None:
    write(project / "pyproject.toml", '[project]\nname = "x"\n\n[tool.runctl.aws]\nregoin = "x"\n')
    (problem,) = read(project, environ={}, user_file=user_file).problems
    assert problem.line == 5
    assert problem.hint == 'did you mean "region"?'


def test_a_file_that_nests_without_end_is_a_problem(project: Path, user_file: Path) -> None:
    write(project / ".runctl.toml", "a = " + "[" * 100_000)
    (problem,) = read(project, environ={}, user_file=user_file).problems
    assert "nested too deeply" in problem.message


def test_a_syntax_error_names_its_line(project: Path, user_file: Path) -> None:
    write(project / ".runctl.toml", "[aws]\nregion = eu-west-1\n")
    (problem,) = read(project, environ={}, user_file=user_file).problems
    assert problem.line == 2
    assert "not valid TOML" in problem.message


def test_a_file_that_is_no_text_is_a_problem(project: Path, user_file: Path) -> None:
    (project / ".runctl.toml").write_bytes(b"\xff\xfe")
    (problem,) = read(project, environ={}, user_file=user_file).problems
    assert "UTF-8" in problem.message


def test_good_keys_of_a_file_with_a_bad_one_are_still_read(project: Path, user_file: Path) -> None:
    write(project / ".runctl.toml", '[aws]\nregion = "eu-west-1"\nspot = 3\n')
    reading = read(project, environ={}, user_file=user_file)
    assert aws_of(reading.config).region == "eu-west-1"
    assert len(reading.problems) == 1


def test_a_named_file_stands_in_for_the_projects(project: Path, user_file: Path, tmp_path: Path) -> None:
    write(project / ".runctl.toml", '[aws]\nregion = "project"\nzone = "project"\n')
    other = write(tmp_path / "other.toml", '[aws]\nregion = "other"\n')
    config = load(project, environ={}, user_file=user_file, config_file=other)
    assert (aws_of(config).region, aws_of(config).zone) == ("other", None)


def test_a_named_file_that_is_missing_is_an_error(project: Path, user_file: Path) -> None:
    with pytest.raises(ConfigError, match="the file does not exist"):
        load(project, environ={}, user_file=user_file, config_file=project / "missing.toml")


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("RUNCTL_AWS_SPOT", "yes", "spot", True),
        ("RUNCTL_AWS_ROOT_VOLUME_SIZE", "80", "root_volume_size", 80),
        ("RUNCTL_AWS_SECURITY_GROUPS", "sg-1, sg-2", "security_groups", ("sg-1", "sg-2")),
    ],
)
def test_variables_are_read_as_their_keys_type(
    project: Path, user_file: Path, variable: str, text: str, key: str, value: object
) -> None:
    config = load(project, environ={variable: text}, user_file=user_file)
    assert getattr(aws_of(config), key) == value


def test_money_is_written_in_a_file_as_on_a_command_line(project: Path, user_file: Path) -> None:
    write(user_file, '[budget]\nday = "25usd"\nweek = 40.5\n[budget.project.digits]\nmonth = "$300"\n')
    environ = {"RUNCTL_BUDGET_MONTH": "100 usd", "RUNCTL_AWS_ASK_ABOVE": "$1.50"}
    config = load(project, environ=environ, user_file=user_file)
    budget = config.budget
    assert (budget.day, budget.week, budget.month) == (Decimal(25), Decimal("40.5"), Decimal(100))
    assert budget.project["digits"].month == 300
    assert aws_of(config).ask_above == Decimal("1.5")


def test_an_empty_variable_counts_as_unset(project: Path, user_file: Path) -> None:
    assert aws_of(load(project, environ={"RUNCTL_AWS_REGION": ""}, user_file=user_file)).region is None


def test_a_variable_of_the_wrong_kind_is_named(project: Path, user_file: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"\$RUNCTL_AWS_SPOT: aws.spot: expected true or false, not 'maybe'"
    ):
        load(project, environ={"RUNCTL_AWS_SPOT": "maybe"}, user_file=user_file)


def test_a_misspelt_variable_is_an_error_with_a_suggestion(project: Path, user_file: Path) -> None:
    (problem,) = read(project, environ={"RUNCTL_AWS_REGOIN": "x"}, user_file=user_file).problems
    assert problem.hint == 'did you mean "RUNCTL_AWS_REGION"?'


def test_variables_that_configure_nothing_are_left_alone(project: Path, user_file: Path) -> None:
    environ = {"RUNCTL_RUN_ID": "run-1", "RUNCTL_AGENT_STATE": "/x", "RUNCTL_DATA_DIR": "/d"}
    assert read(project, environ=environ, user_file=user_file).problems == ()


def test_a_path_is_relative_to_its_file(project: Path, user_file: Path) -> None:
    file = write(project / ".runctl.toml", '[aws]\nidentity_file = "keys/id"\n')
    trust(file, {"aws.identity_file": str(project / "keys" / "id")})
    config = load(project / ".git", environ={}, user_file=user_file)
    assert aws_of(config).identity_file == str(project / "keys" / "id")


def test_every_field_has_a_rule_and_its_default_passes_it() -> None:
    for key, rule in rules().items():
        section, name = key.split(".")
        assert getattr(sections()[section](), name) == rule.default


@given(st.text(max_size=200))
def test_no_text_whatever_makes_reading_raise(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / ".git").mkdir()
    (folder / ".runctl.toml").write_text(text, encoding="utf-8", errors="surrogatepass")
    reading = read(folder, environ={}, user_file=folder / "none")
    assert isinstance(reading.config, Config)


@pytest.mark.parametrize(
    "line",
    [
        '[aws]\nami_id = "ami-1"',
        '[aws]\nprofile = "admin"',
        '[aws]\ninstance_profile = "admin"',
        '[aws]\nstaging_bucket = "theirs"',
        '[aws]\nsecurity_groups = ["open"]',
        '[docker]\nimage = "theirs:1"',
        '[docker]\nregistry = "theirs.example/x"',
        '[train.interpreters]\npy = "theirs"',
    ],
)
def test_what_a_projects_file_may_not_choose_counts_only_when_it_is_trusted(
    project: Path, user_file: Path, line: str
) -> None:
    file = write(project / ".runctl.toml", f'[project]\nname = "x"\n{line}\n')
    reading = read(project, environ={}, user_file=user_file)
    (problem,) = reading.problems
    assert (problem.where, problem.line) == (str(file), 3 if "interpreters" in line else 4)
    assert "must be trusted" in problem.message
    assert "runctl config trust" in problem.hint
    assert dataclasses.replace(reading.config, origins={}) == Config(project=ProjectConfig(name="x"))
    with pytest.raises(ConfigError, match="must be trusted"):
        load(project, environ={}, user_file=user_file)

    wanted = values_to_trust(read_file(ConfigFile(file))[0])
    trust(file, wanted)
    assert read(project, environ={}, user_file=user_file).problems == ()


def test_the_page_names_every_key_that_needs_trust() -> None:
    page = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
    _, _, told = page.partition("## Trust\n")
    told, _, _ = told.partition("Until then")
    wanted = {"budget" if key.startswith("budget.") else key for key, rule in rules().items() if rule.trust}
    assert set(re.findall("`([a-z_.0-9]+)`", told)) - {"ecr"} == wanted


def test_trust_is_of_values_and_of_one_file(project: Path, user_file: Path, tmp_path: Path) -> None:
    file = write(project / ".runctl.toml", '[aws]\nami_id = "ami-1"\n')
    trust(file, {"aws.ami_id": "ami-1"})
    write(file, '[aws]\nami_id = "ami-1"\nspot = true\n')
    assert aws_of(load(project, environ={}, user_file=user_file)).ami_id == "ami-1"
    write(file, '[aws]\nami_id = "ami-2"\n')
    assert load_problem(project, user_file)
    write(file, '[aws]\nami_id = "ami-1"\nprofile = "admin"\n')
    assert load_problem(project, user_file)
    write(file, '[aws]\nami_id = "ami-1"\n')
    (tmp_path / "other/.git").mkdir(parents=True)
    write(tmp_path / "other/.runctl.toml", '[aws]\nami_id = "ami-1"\n')
    assert load_problem(tmp_path / "other", user_file)
    assert distrust(file)
    assert not distrust(file)
    assert load_problem(project, user_file)


def load_problem(folder: Path, user_file: Path) -> bool:
    return bool(read(folder, environ={}, user_file=user_file).problems)


def test_what_the_user_names_needs_no_trust(project: Path, user_file: Path, tmp_path: Path) -> None:
    write(user_file, '[aws]\nami_id = "ami-1"\n')
    named = write(tmp_path / "named.toml", '[aws]\nprofile = "mine"\n')
    config = load(project, environ={"RUNCTL_DOCKER_IMAGE": "mine"}, user_file=user_file, config_file=named)
    assert (aws_of(config).ami_id, aws_of(config).profile, config.docker.image) == ("ami-1", "mine", "mine")
    write(project / ".runctl.toml", '[docker]\nregistry = "ecr"\n')
    assert load(project, environ={}, user_file=user_file).docker.registry == "ecr"
