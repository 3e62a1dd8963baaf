from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.containers.mounts import CONFIG, MountRequest, check_targets, hidden_files, parse_mount
from runctl.core.errors import UsageError
from runctl.core.mount_points import is_within

PARTS = st.text(alphabet="ab-_ é1", min_size=1, max_size=4)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
VOLUMES = st.sampled_from(["datasets", "my data", "vol-0123456789abcdef0"])
REQUESTS = st.builds(MountRequest, PATHS | VOLUMES, PATHS, st.booleans(), st.just(CONFIG))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/mnt/data:/data", ("/mnt/data", "/data", False)),
        ("/mnt/data:/data:ro", ("/mnt/data", "/data", True)),
        ("/mnt/data/:/data/:rw", ("/mnt/data", "/data", False)),
        ("//mnt//data:/data", ("/mnt/data", "/data", False)),
        ("datasets:/data", ("datasets", "/data", False)),
        ("datasets:/var/data", ("datasets", "/var/data", False)),
        ("vol-0123456789abcdef0:/data:ro", ("vol-0123456789abcdef0", "/data", True)),
    ],
)
def test_a_well_formed_mount_is_read(text: str, expected: tuple[str, str, bool]) -> None:
    mount = parse_mount(text)

    assert (mount.source, mount.target, mount.read_only) == expected


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("", "source and a target"),
        ("/mnt/data", "source and a target"),
        (":/data", "source and a target"),
        ("/mnt/data:", "source and a target"),
        ("/a:/b:ro:ro", "more than a source, a target and a mode"),
        ("/mnt/data:/data:readonly", "not a mode"),
        ("/mnt/data:data", "not an absolute path"),
        ("mnt/data:/data", "neither an absolute path nor a volume"),
        ("vol-12:/data", "not a volume id"),
        ("/mnt/../etc:/data", "climbs"),
        ("/mnt/data:/data/../etc", "climbs"),
        ("/mnt/data:/", "hide everything"),
        ("/mnt/data://", "hide everything"),
        ("/mnt/data:/usr", "the system's own"),
        ("/mnt/data:/var/", "the system's own"),
        ("/mnt/data:/proc", "the system's own"),
        ("/mnt/data:/dev/shm", "the system's own"),
        ("/mnt/data:/da,ta", "comma"),
        ("/mnt/data:/da\nta", "control character"),
    ],
)
def test_a_malformed_mount_is_one_clear_error(text: str, because: str) -> None:
    with pytest.raises(UsageError, match=because) as caught:
        parse_mount(text)

    assert caught.value.hint
    assert caught.value.exit_code == 2


@given(st.text(alphabet="/abc.:ro-_ ,\n", max_size=30))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        mount = parse_mount(text)
    except UsageError:
        return

    assert mount.target.startswith("/")
    assert mount.target != "/"
    assert ".." not in mount.target.split("/")
    assert not mount.target.endswith("/")


def test_two_mounts_at_one_target_are_refused() -> None:
    with pytest.raises(UsageError, match="two mounts want /data") as caught:
        check_targets([parse_mount("/mnt/data:/data"), parse_mount("/mnt/cache:/data/")], None)

    assert caught.value.code == "duplicate-target"


@pytest.mark.parametrize("target", ["/workspace", "/work"])
def test_a_mount_may_not_hide_the_project(target: str) -> None:
    with pytest.raises(UsageError, match="hide the project"):
        check_targets([parse_mount(f"/mnt/data:{target}")], f"{target.rstrip('/')}")


def test_a_mount_inside_the_project_is_allowed() -> None:
    check_targets(
        [parse_mount("/mnt/data:/workspace/data"), parse_mount("/mnt/cache:/workspaces")], "/workspace"
    )


@pytest.mark.parametrize("target", ["/workspace/training", "/workspace/training/train.py"])
def test_a_mount_may_not_hide_the_script(target: str) -> None:
    with pytest.raises(UsageError, match="hide the script"):
        check_targets([parse_mount(f"/mnt/data:{target}")], "/workspace", "training/train.py")


@pytest.mark.parametrize("target", ["/runctl", "/runctl/output"])
def test_a_mount_may_not_take_the_place_of_the_results(target: str) -> None:
    with pytest.raises(UsageError, match="kept for checkpoints"):
        check_targets([parse_mount(f"/mnt/data:{target}")], "/workspace")


def test_on_the_host_there_is_no_project_to_hide() -> None:
    check_targets([parse_mount("/mnt/data:/workspace"), parse_mount("/mnt/x:/runctl/x")], None)


def test_what_a_mount_inside_the_project_hides_is_known() -> None:
    files = ["train.py", "data/README.md", "database.py"]

    assert hidden_files("/workspace/data", "/workspace/", files) == ["data/README.md"]
    assert hidden_files("/data", "/workspace", files) == []


@given(REQUESTS)
def test_what_is_written_down_is_read_back(request: MountRequest) -> None:
    assert parse_mount(request.text, CONFIG) == request


@given(PATHS, PATHS, st.sampled_from(["", "/", "//"]), st.sampled_from([":rw", ":ro", ""]))
def test_superfluous_slashes_change_nothing(source: str, target: str, more: str, mode: str) -> None:
    assert parse_mount(f"/{source}{more}:{target}{more}{mode}") == parse_mount(f"{source}:{target}{mode}")


@given(st.lists(REQUESTS, max_size=5), PATHS)
def test_targets_that_are_accepted_differ_and_hide_nothing(
    requests: list[MountRequest], workdir: str
) -> None:
    script = "training/train.py"
    try:
        check_targets(requests, workdir, script)
    except UsageError:
        targets = [request.target for request in requests]
        hides = [is_within(f"{workdir}/{script}", target) for target in targets]
        assert any(hides) or len(set(targets)) < len(targets)
        return

    targets = [request.target for request in requests]
    assert len(set(targets)) == len(targets)
    assert not any(is_within(workdir, target) for target in targets)
    assert not any(hidden_files(target, workdir, [script]) for target in targets)


def test_a_configured_mount_says_where_it_came_from() -> None:
    with pytest.raises(UsageError, match=r"\[ebs\] mount_points"):
        parse_mount("nothing", CONFIG)

    assert parse_mount("/mnt/data:/data", CONFIG) == MountRequest("/mnt/data", "/data", False, CONFIG)
