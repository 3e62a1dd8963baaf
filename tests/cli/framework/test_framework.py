"""Global options anywhere, suggestions, aliases, lazy loading, and the table of commands."""

from __future__ import annotations

import json
import shlex

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.cli.context import Cli, Settings
from runctl.cli.framework.commands import (
    Command,
    LazyGroup,
    PassthroughCommand,
    RootGroup,
)
from runctl.cli.framework.options import GlobalOption, MayBeBytes
from runctl.providers.plugin import Branch, Leaf
from tests.cli.conftest import Invoke, data_of
from tests.cli.fake_provider import Script
from tests.cli.framework.test_command_table import all_commands

GLOBALS: dict[tuple[str, ...], tuple[str, object]] = {
    ("--output", "json"): ("output", "json"),
    ("--output=json",): ("output", "json"),
    ("-q",): ("quiet", True),
    ("--quiet",): ("quiet", True),
    ("-y",): ("yes", True),
    ("--verbose",): ("verbose", True),
    ("--profile", "p"): ("profile", "p"),
    ("--region=eu-west-1",): ("region", "eu-west-1"),
}


def probe(seen: list[object]) -> LazyGroup:
    """A tree with one command, two groups deep, that remembers what it was given."""

    @click.command(cls=PassthroughCommand)
    @click.argument("word")
    @click.option("--own")
    @click.pass_obj
    def leaf(cli: Cli, word: str, own: str | None, rest: tuple[str, ...]) -> None:
        """A leaf."""
        seen.extend([cli.settings, word, own, rest])

    branch = Branch("group", {"leaf": Leaf("A leaf.", "x:y")})
    root = LazyGroup(Branch("root", {"group": branch}), "runctl")
    group = LazyGroup(branch, "group")
    group.commands["leaf"] = leaf
    leaf.name = "leaf"
    root.commands["group"] = group
    return root


def run_probe(arguments: list[str]) -> list[object]:
    seen: list[object] = []
    root = probe(seen)
    with root.make_context("runctl", arguments, obj=Cli()) as context:
        root.invoke(context)
    return seen


@given(
    st.lists(st.sampled_from(sorted(GLOBALS)), max_size=5),
    st.lists(st.integers(0, 4), min_size=5, max_size=5),
    st.lists(st.text(), max_size=4),
)
def test_global_options_may_stand_anywhere_before_the_dashes(
    chosen: list[tuple[str, ...]], places: list[int], rest: list[str]
) -> None:
    slots: list[list[str]] = [[], [], [], [], []]
    for phrase, place in zip(chosen, places, strict=False):
        slots[place] += phrase
    line = [
        *slots[0],
        "group",
        *slots[1],
        "leaf",
        *slots[2],
        "word",
        *slots[3],
        "--own",
        "o",
        *slots[4],
        "--",
        *rest,
    ]
    settings, word, own, passed = run_probe(line)
    expected = dict(GLOBALS[phrase] for phrase in chosen)
    assert settings == Settings(**expected)  # type: ignore[arg-type]
    assert (word, own, passed) == ("word", "o", tuple(rest))


def test_the_option_nearest_to_the_end_wins() -> None:
    settings, *_ = run_probe(["--region", "a", "group", "--region", "b", "leaf", "w", "--region", "c"])
    assert settings == Settings(region="c")


@given(
    st.lists(
        st.sampled_from(["--output", "json", "-q", "--help", "--version", "", "--", "-x", "word"]), max_size=6
    )
)
def test_nothing_after_the_dashes_is_ever_read(rest: list[str]) -> None:
    settings, _, _, passed = run_probe(["group", "leaf", "w", "--", *rest])
    assert settings == Settings()
    assert passed == tuple(rest)


@pytest.mark.parametrize(
    ("argv", "code", "stderr"),
    [
        ("aws lst", 2, "error: runctl aws has no command 'lst'\nhint: did you mean \"list\"?\n"),
        ("aws log", 2, "error: runctl aws has no command 'log'\nhint: did you mean \"logs\"?\n"),
        ("awz list", 2, "error: runctl has no command 'awz'\nhint: did you mean \"aws\"?\n"),
        ("aws list --al", 2, "error: runctl aws list has no option '--al'\nhint: did you mean \"--all\"?\n"),
        (
            "version --regoin x",
            2,
            "error: runctl version has no option '--regoin'\nhint: did you mean \"--region\"?\n",
        ),
        ("aws list --zzz", 2, "error: runctl aws list has no option '--zzz'\nhint: runctl aws list --help\n"),
        (
            "version --region",
            2,
            "error: option '--region' requires an argument\nhint: runctl version --help\n",
        ),
        (
            "version extra",
            2,
            "error: 'extra' is one argument too many: runctl version takes no arguments\nhint: runctl version --help\n",
        ),
    ],
)
def test_a_wrong_line_says_what_was_meant(invoke: Invoke, argv: str, code: int, stderr: str) -> None:
    result = invoke(*argv.split())
    assert (result.exit_code, result.stderr, result.stdout) == (code, stderr, "")


@pytest.mark.parametrize(
    "argv",
    [
        "--output json aws lst",
        "aws lst --output json",
        "aws lst --output=json",
        "aws --bogus --output json list",
        "aws --output json",
    ],
)
def test_a_wrong_line_is_json_when_json_is_asked_for_anywhere(invoke: Invoke, argv: str) -> None:
    result = invoke(*argv.split())
    assert result.exit_code == 2
    assert set(json.loads(result.stderr)["error"]) == {"code", "message", "hint"}


def test_a_command_that_takes_more_after_dashes_says_so(invoke: Invoke) -> None:
    result = invoke("aws", "exec", "i-0123456789abcdef0", "--epochs", "5")
    assert "hint: arguments for the script or command go after two dashes: -- --epochs" in result.stderr


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (
            "local train train.py --name x",
            'did you mean "--run-name"? --name is an option of runctl aws launch and runctl aws create;',
        ),
        ("local launch train.py --spot", "--spot is an option of runctl aws launch"),
        (
            "aws train i-1 train.py --show-aws",
            "--show-aws is an option of runctl aws launch and runctl aws create;",
        ),
        (
            "export kubernetes train.py --dry-run",
            "--dry-run is an option of runctl aws train, runctl aws launch and",
        ),
        (
            "local train train.py --epochs 3",
            "arguments for the script or command go after two dashes: -- --epochs",
        ),
    ],
)
def test_an_option_of_a_command_that_is_alike_is_not_taken_for_the_scripts(
    invoke: Invoke, argv: str, hint: str
) -> None:
    result = invoke(*argv.split())

    assert result.exit_code == 2
    assert f"hint: {hint}" in result.stderr


def test_a_misspelt_option_is_suggested_there_too(invoke: Invoke) -> None:
    assert 'did you mean "--transport"?' in invoke("aws", "exec", "i-1", "--transprt", "ssh").stderr


def test_a_group_alone_shows_its_help_on_stderr_and_fails(invoke: Invoke) -> None:
    result = invoke("aws", "ebs")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Commands:" in result.stderr


def test_group_help_shows_aliases_and_imports_no_command(invoke: Invoke) -> None:
    result = invoke("aws", "--help")
    assert result.exit_code == 0
    assert "(aliases: logs, watch)" in result.stdout


def test_the_version_is_data_too(invoke: Invoke) -> None:
    assert set(data_of(invoke("version", "--output", "json"))) == {"version", "python", "platform"}
    assert invoke("version", "-q").stdout.strip() == data_of(invoke("version", "--output", "json"))["version"]


@pytest.mark.parametrize(
    ("argv", "both"),
    [
        ("aws create --spot --on-demand", ("--spot", "--on-demand")),
        ("aws create --on-demand --zone z --spot", ("--spot", "--on-demand")),
        ("aws train i-1 x.py --docker --no-docker", ("--docker", "--no-docker")),
        ("aws train i-1 x.py --no-sync-code --sync-code", ("--sync-code", "--no-sync-code")),
        ("runs logs r --follow --no-follow", ("--follow", "--no-follow")),
        ("runs logs r --wait --no-follow", ("--wait", "--no-follow")),
        ("runs stop r --force --grace 3s", ("--force", "--grace")),
        ("aws start i-1 --no-wait --timeout 3m", ("--no-wait", "--timeout")),
        ("aws ebs attach v i-1 --no-mount --fstype xfs", ("--no-mount", "--fstype")),
        ("aws ebs prewarm v --no-helper --spot", ("--no-helper", "--spot")),
        ("docker build --build-on local --instance i-1", ("--build-on local", "--instance")),
        ("aws launch x.py --no-results --fetch-within 2h", ("--no-results", "--fetch-within")),
        ("aws create --dry-run --show-aws", ("--show-aws", "--dry-run")),
        ("aws setup --show-aws --dry-run", ("--show-aws", "--dry-run")),
    ],
)
def test_options_that_exclude_each_other_are_refused(
    invoke: Invoke, argv: str, both: tuple[str, str]
) -> None:
    result = invoke(*argv.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {both[0]} and {both[1]} contradict each other\n")


@pytest.mark.parametrize(
    ("argv", "option", "needed"),
    [
        ("aws create --data-mount-point /mnt/x", "--data-mount-point", "--data-volume-size"),
        ("aws ebs move v --zone z --include-protected", "--include-protected", "--delete-source"),
    ],
)
def test_an_option_that_means_nothing_without_another_is_refused(
    invoke: Invoke, script: Script, argv: str, option: str, needed: str
) -> None:
    result = invoke(*argv.split())
    assert result.exit_code == 2
    assert f"{option} means nothing without {needed}" in result.stderr
    assert script.calls == []


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ("aws create --subnet ''", "--subnet"),
        ("aws create --instance-type=", "--instance-type"),
        ("aws create --gpu '' --spot", "--gpu"),
        ("aws launch x.py --checkpoint-s3 '' -- 1", "--checkpoint-s3"),
        ("local launch x.py --results ''", "--results"),
        ("aws list --region ''", "--region"),
        ("runs list --config ''", "--config"),
        ("checkpoint pull latest '' --replace", "FOLDER"),
    ],
)
def test_an_empty_value_is_not_taken_for_none(invoke: Invoke, script: Script, argv: str, named: str) -> None:
    result = invoke(*shlex.split(argv))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {named} is empty\n")
    assert script.calls == []


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ("runs show r\udc80", "RUN"),
        ("cost run r\udc80", "RUN"),
        ("runs list --project p\udcff", "--project"),
        ("aws ebs show v\udc80", "VOLUME"),
        ("aws terminate a i\udc80 --yes", "INSTANCE..."),
        ("aws list --region us\udc80", "--region"),
    ],
)
def test_a_name_that_is_not_utf_8_is_refused(invoke: Invoke, script: Script, argv: str, named: str) -> None:
    result = invoke(*argv.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {named} is not UTF-8 text: b'")
    assert script.calls == []


def test_a_path_a_variable_and_a_script_s_argument_may_have_any_bytes() -> None:
    seen: list[object] = []

    @click.command(cls=PassthroughCommand)
    @click.argument("path", type=click.Path())
    @click.option("--env", cls=MayBeBytes, multiple=True)
    def command(path: str, env: tuple[str, ...], rest: tuple[str, ...]) -> None:
        """Remember."""
        seen.extend([path, env, rest])

    command.main(["p\udc80", "--env", "A=\udc81", "--", "\udc82"], standalone_mode=False)
    assert seen == ["p\udc80", ("A=\udc81",), ("\udc82",)]


def test_an_option_may_be_repeated_and_be_another_ones_value(invoke: Invoke) -> None:
    assert "contradict" not in invoke("aws", "create", "--spot", "--spot", "--help").stderr
    seen: list[object] = []

    @click.command(cls=Command)
    @click.option("--spot/--on-demand")
    @click.option("--name")
    def command(spot: bool, name: str) -> None:
        """Remember."""
        seen.extend([spot, name])

    command.main(["--spot", "--name", "--on-demand"], standalone_mode=False)
    assert seen == [True, "--on-demand"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("aws create --root-volume-size 1GB", "'1GB' is not a whole number: write 1 for 1 GiB"),
        ("aws ebs create --size -5", "-5 is too small: 1 GiB is the least"),
        ("aws ebs create --iops many --size 1", "'many' is not a whole number, such as 1"),
        ("runs logs r --tail x", "'x' is not a whole number, such as 1"),
        ("completion powershell", "invalid value for 'SHELL'"),
        ("sandbox quota", "missing argument 'standard|g|p'\nhint: "),
        ("aws train i a.py --interpreter ''", "--interpreter is empty"),
        ("--config nosuch.toml aws list", "hint: check the path"),
        ("aws ebs resize v", "no change is named"),
        ("aws status a b", "'b' is one argument too many: runctl aws status takes INSTANCE and no more"),
    ],
)
def test_a_wrong_value_is_told_in_our_own_words(invoke: Invoke, text: str, said: str) -> None:
    result = invoke(*shlex.split(text))
    assert result.exit_code in {2, 3}
    assert said in result.stderr


def test_no_number_is_refused_in_clicks_words() -> None:
    for path, command in all_commands(RootGroup(), "runctl"):
        for parameter in command.params:
            assert not isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType), (
                f"{path} {parameter.opts}: use runctl.cli.framework.values.WholeNumber"
            )


@pytest.mark.parametrize(("word", "meant"), [("train", "runctl aws train"), ("logs", "runctl runs logs")])
def test_a_command_at_the_wrong_level_is_found(invoke: Invoke, word: str, meant: str) -> None:
    assert meant in invoke(word).stderr


def test_help_has_its_options_in_sections_and_examples_that_can_be_parsed(invoke: Invoke) -> None:
    for path, command in all_commands(RootGroup(), "runctl"):
        known = {name for parameter in command.params for name in parameter.opts}
        for options in getattr(command, "sections", {}).values():
            assert set(options) <= known | OPTIONS_OF_OTHER_PROVIDERS, path
        if getattr(command, "sections", {}):
            placed = {name for options in command.sections.values() for name in options}  # type: ignore[attr-defined]
            own = [p for p in command.params if not isinstance(p, GlobalOption | click.Argument)]
            assert [p.opts for p in own if not placed & set(p.opts)] == [], path
        for line, _ in getattr(command, "examples", ()):
            assert line.startswith(path), line
            phrase = line.removeprefix(path).split()
            command.make_context(path, phrase, obj=Cli())
    text = invoke("aws", "train", "--help").stdout
    titles = ("What runs:", "Volumes:", "Container:", "Image build:", "Global options:", "Examples:")
    assert [title for title in titles if f"\n{title}\n" in text] == list(titles)


OPTIONS_OF_OTHER_PROVIDERS = {
    *("--volume", "--ebs-volume", "--ebs-mount", "--mount-point"),
    *("--auto-resume", "--max-attempts", "--retry-within"),
}


INST, VOL, SNAP, RUN = (
    "i-0123456789abcdef0",
    "vol-0123456789abcdef0",
    "snap-0123456789abcdef0",
    "run-7kq2m9xd4t",
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"aws ebs show {INST}", f"{INST} is an instance, and a volume is needed here"),
        (f"aws ebs delete data {SNAP}", f"{SNAP} is a snapshot, and a volume is needed here"),
        (f"aws ebs attach {RUN} {INST}", f"{RUN} is a run, and a volume is needed here"),
        (f"aws create --ebs-volume {INST}", f"{INST} is an instance, and a volume is needed here"),
        (f"aws ebs restore {VOL}", f"{VOL} is a volume, and a snapshot is needed here"),
        (f"aws ebs snapshot-delete {INST}", f"{INST} is an instance, and a snapshot is needed here"),
        (f"runs show {INST}", f"{INST} is an instance, and a run is needed here"),
        (f"runs logs {VOL}", f"{VOL} is a volume, and a run is needed here"),
        (f"aws monitor {INST} {INST}", f"{INST} is an instance, and a run is needed here"),
        (f"aws ebs attach data {VOL}", f"{VOL} is a volume, and an instance is needed here"),
    ],
)
def test_the_id_of_another_kind_is_told_before_anybody_is_asked(
    invoke: Invoke, script: Script, text: str, said: str
) -> None:
    result = invoke(*shlex.split(text))
    assert result.exit_code in {2, 3}
    assert said in result.stderr
    assert script.calls == []
