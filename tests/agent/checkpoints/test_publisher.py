"""What of a run's checkpoints reaches a store, and in which order."""

from __future__ import annotations

import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from runctl.agent.checkpoints import layout
from runctl.agent.checkpoints.layout import StoredFile
from runctl.agent.checkpoints.restoring import restore
from runctl.agent.checkpoints.store_files import LARGE
from runctl.agent.errors import AgentError
from tests.agent.checkpoints.samples import archive
from tests.agent.checkpoints.saving import NEW, Run


def test_a_checkpoint_is_published_once_with_what_belongs_to_it(run: Run) -> None:
    run.save("model-1.pt")
    run.save("optimizer-1.pt", b"o" * 100)
    run.put("config.json", b"{}")
    publisher = run.publisher()

    assert publisher.publish_new(time.time())
    assert not publisher.publish_new(time.time())

    (manifest,) = run.manifests()
    assert (manifest.name, manifest.step, manifest.number) == ("optimizer-1.pt", None, 1)
    assert [file.path for file in manifest.files] == ["config.json", "model-1.pt", "optimizer-1.pt"]
    assert run.data() == {layout.data_key(file.sha256) for file in manifest.files}
    assert publisher.published.manifest == manifest


def test_only_what_changed_is_sent(run: Run) -> None:
    for number, name in enumerate(("a", "b", "c")):
        run.put(f"checkpoint-1/{name}.safetensors.bin", bytes([number]) * 500)
    run.put("checkpoint-1/trainer_state.json", b'{"global_step": 1}')
    publisher = run.publisher()
    publisher.publish_new(time.time())
    before = run.data()

    shutil.copytree(run.folder / "checkpoint-1", run.folder / "checkpoint-2")
    run.put("checkpoint-2/b.safetensors.bin", b"changed", age=5)
    run.put("checkpoint-2/trainer_state.json", b'{"global_step": 2}', age=5)
    publisher.publish_new(time.time())

    assert [manifest.step for manifest in run.manifests()] == [1, 2]
    assert len(run.data() - before) == 2
    assert "of which 25 were new" in run.said[-1]


def test_a_half_written_one_is_never_published_and_the_one_before_it_is(run: Run) -> None:
    run.save("step-1.pt", age=100)
    run.put("step-2.pt", archive(NEW)[:-10])
    publisher = run.publisher()
    publisher.publish_new(time.time())
    assert [manifest.name for manifest in run.manifests()] == ["step-1.pt"]

    run.save("step-2.pt")
    publisher.publish_new(time.time())
    assert [manifest.name for manifest in run.manifests()] == ["step-1.pt", "step-2.pt"]


def test_one_that_is_saved_over_the_last_is_published_again(run: Run) -> None:
    run.save("last.pt", b"1")
    publisher = run.publisher()
    publisher.publish_new(time.time())
    run.save("last.pt", b"2", age=5)
    publisher.publish_new(time.time())
    assert [manifest.number for manifest in run.manifests()] == [1, 2]


def test_old_ones_are_removed_with_their_data_and_the_best_stays(run: Run) -> None:
    publisher = run.publisher(keep_last=1, keep_best=("best*",))
    run.save("best.pt", b"best", age=100)
    publisher.publish_new(time.time())
    for number in (1, 2, 3):
        run.save(f"step-{number}.pt", bytes([number]), age=50 - number)
        publisher.publish_new(time.time())
    assert [manifest.name for manifest in run.manifests()] == ["best.pt", "step-3.pt"]
    assert len(run.data()) == 2


def test_what_somebody_else_has_published_meanwhile_keeps_its_data(run: Run) -> None:
    publisher = run.publisher(keep_last=1, keep_best=("pinned*",))
    run.save("step-1.pt", b"1", age=50)
    publisher.publish_new(time.time())
    (first,) = run.manifests()
    pinned = replace(first, number=2, name="pinned.pt", files=(replace(first.files[0], path="pinned.pt"),))
    run.store.put(pinned.key, layout.encode(pinned))

    run.save("step-2.pt", b"2", age=40)
    publisher.publish_new(time.time())
    assert [manifest.name for manifest in run.manifests()] == ["pinned.pt", "step-2.pt"]
    assert layout.data_key(first.files[0].sha256) in run.data()

    # The run goes on elsewhere: what is there is that attempt's to remove.
    elsewhere = replace(pinned, attempt=2, number=1)
    run.store.put(elsewhere.key, layout.encode(elsewhere))
    run.save("step-3.pt", b"3", age=30)
    publisher.publish_new(time.time())
    names = [manifest.name for manifest in run.manifests()]
    assert names == ["pinned.pt", "step-2.pt", "step-3.pt", "pinned.pt"]


def test_what_is_kept_as_best_is_published_also_when_a_newer_one_is_there(run: Run) -> None:
    run.save("best.pt", b"best", age=100)
    run.save("step-1.pt", b"1", age=50)
    run.save("step-2.pt", b"2", age=10)
    run.publisher(keep_best=("best*",)).publish_new(time.time())
    assert [manifest.name for manifest in run.manifests()] == ["best.pt", "step-2.pt"]


def test_a_further_publisher_goes_on_counting_and_sends_nothing_twice(run: Run) -> None:
    run.save("step-1.pt")
    run.publisher().publish_new(time.time())
    again = run.publisher()
    again.publish_new(time.time())
    assert len(run.manifests()) == 1
    assert again.published.manifest == run.manifests()[0]
    run.save("step-2.pt", b"2", age=5)
    again.publish_new(time.time())
    assert [manifest.key for manifest in run.manifests()] == [
        "checkpoints/0001-000001.json",
        "checkpoints/0001-000002.json",
    ]


def test_a_large_file_goes_and_comes_in_parts(run: Run, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * ((LARGE >> 20) + 3) + b"end"
    run.put("weights.bin", data)
    run.publisher().publish_new(time.time())
    assert restore(run.store, tmp_path / "fresh", run.said.append) is not None
    assert (tmp_path / "fresh/weights.bin").read_bytes() == data


def test_at_the_end_the_last_is_published_without_waiting_for_quiet(run: Run) -> None:
    run.put("weights.bin", b"w", age=0)
    publisher = run.publisher()
    assert not publisher.publish_new(time.time())
    published = publisher.finish(time.time() + 60)
    assert published.manifest == run.manifests()[0]
    assert published.left == ()


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("keep_last", [None, 1])
def test_what_the_script_has_kept_in_the_end_is_published_and_the_newest_stays_the_newest(
    run: Run, tmp_path: Path, restarted: bool, keep_last: int | None
) -> None:
    publisher = run.publisher(keep_last=keep_last)
    run.save("checkpoint-best.pt", b"best", age=100)
    last = run.save("checkpoint-last.pt", b"last", age=50)
    publisher.publish_new(time.time())
    assert [manifest.name for manifest in run.manifests()] == ["checkpoint-last.pt"]
    last.unlink()

    publisher = run.publisher(keep_last=keep_last) if restarted else publisher
    published = publisher.finish(time.time() + 60)
    again = publisher.finish(time.time() + 60)

    assert published.left == again.left == ()
    names = [manifest.name for manifest in run.manifests()]
    assert "checkpoint-best.pt" in names
    assert names[-1] == "checkpoint-last.pt"
    assert published.manifest == again.manifest == run.manifests()[-1]
    # Where the script was ended while it replaced its last one, the run goes on from that.
    restored = restore(run.store, tmp_path / "elsewhere", run.said.append)
    assert restored is not None
    assert restored.manifest.name == "checkpoint-last.pt"


def test_what_a_newer_best_was_published_before_is_not_sent_in_the_end(run: Run) -> None:
    publisher = run.publisher(keep_last=1, keep_best=("best*",))
    run.save("step-200.pt", b"s" * 5000, age=100)
    run.save("best.pt", b"best", age=50)
    publisher.publish_new(time.time())
    before = run.data()

    published = publisher.finish(time.time() + 60)

    assert published.left == ()
    assert [manifest.name for manifest in run.manifests()] == ["best.pt"]
    assert run.data() == before


@pytest.mark.parametrize("keep_best", [(), ("best*",)])
def test_what_was_put_once_more_to_stay_the_newest_counts_once_and_the_older_ones_go(
    run: Run, keep_best: tuple[str, ...]
) -> None:
    publisher = run.publisher(keep_last=2, keep_best=keep_best)
    run.save("kept.pt", b"kept", age=100)
    for number in (1, 2, 3):
        run.save(f"step-{number}.pt", bytes([number]), age=50 - number)
        publisher.publish_new(time.time())
        (run.folder / f"step-{number}.pt").unlink()

    publisher.finish(time.time() + 60)

    assert [manifest.name for manifest in run.manifests()] == ["step-2.pt", "kept.pt", "step-3.pt"]
    assert len(run.data()) == 3


def test_what_the_script_has_kept_is_not_missed_where_there_is_no_time_for_it(run: Run) -> None:
    publisher = run.publisher()
    run.save("best.pt", b"b" * 5000, age=100)
    last = run.save("last.pt", b"last", age=50)
    publisher.publish_new(time.time())
    last.unlink()
    publisher.bytes_per_second = 1.0

    published = publisher.finish(time.time() + 60)

    assert published.left == ()
    assert [manifest.name for manifest in run.manifests()] == ["last.pt"]
    assert "best.pt is not published: 60 s are too short for it" in run.said


def test_what_is_not_published_in_the_end_is_said(run: Run) -> None:
    run.save("step-1.pt", age=100)
    publisher = run.publisher()
    publisher.publish_new(time.time())
    new = run.save("step-2.pt", b"2", age=10)
    publisher._store = Away()  # type: ignore[assignment]
    published = publisher.finish(time.time() + 60)
    assert [(left.name, left.size, left.why) for left in published.left] == [
        ("step-2.pt", new.stat().st_size, "it is away")
    ]
    assert published.manifest == run.manifests()[0]


class Away:
    """A store that does not answer."""

    def __getattr__(self, name: str) -> object:
        def refuse(*_: object, **__: object) -> None:
            raise AgentError("store-away", "it is away")

        return refuse


def test_a_checkpoint_that_changes_while_it_is_sent_is_not_published(run: Run) -> None:
    path = run.save("step-1.pt")
    publisher = run.publisher()
    real = run.store

    class Slow:
        def __getattr__(self, name: str) -> object:
            if name == "put_file":
                os.utime(path)
            return getattr(real, name)

    publisher._store = Slow()  # type: ignore[assignment]
    with pytest.raises(AgentError) as caught:
        publisher.publish_new(time.time())
    assert caught.value.code == "changed"
    assert run.manifests() == []


@pytest.mark.parametrize("size", [1000, 17 << 20])
def test_no_data_has_another_content_than_its_key_says(run: Run, size: int) -> None:
    path = run.put("weights.bin", b"1" * size)
    publisher = run.publisher()
    real = run.store

    class Overwritten:
        """The script writes over the file, once its checksum is known."""

        def __getattr__(self, name: str) -> object:
            if name == "put_file":
                path.write_bytes(b"2" * size)
            return getattr(real, name)

    publisher._store = Overwritten()  # type: ignore[assignment]
    with pytest.raises(AgentError) as caught:
        publisher.publish_new(time.time())
    assert caught.value.code == "changed"
    assert run.data() == set()


def test_when_time_is_short_an_older_one_is_given_up_for_the_newest_and_nothing_is_removed(run: Run) -> None:
    first = run.save("step-1.pt", b"1", age=90)
    publisher = run.publisher(keep_last=1)
    publisher.publish_new(time.time())
    for name in ("a", "b"):
        run.put(f"step-2/{name}.bin", name.encode() * 100, age=60)
    hurried = run.publisher(keep_last=1, hurry=lambda: True)
    real = run.store

    class Interrupted:
        """The script saves once more while the one before is sent."""

        def __getattr__(self, name: str) -> object:
            if name == "keys":
                run.save("step-3.pt", b"3", age=30)
            return getattr(real, name)

    hurried._store = Interrupted()  # type: ignore[assignment]
    with pytest.raises(AgentError) as caught:
        hurried.publish_new(time.time())
    assert (caught.value.code, len(run.data())) == ("changed", 1)
    assert hurried.finish(time.time() + 60).left == ()
    assert [manifest.name for manifest in run.manifests()] == [first.name, "step-3.pt"]


def test_what_cannot_be_sent_in_time_lets_an_older_one_go_first_that_can(run: Run) -> None:
    small = run.save("step-1.pt", b"s" * 1000, age=90)
    publisher = run.publisher(hurry=lambda: True)
    publisher.publish_new(time.time())
    run.save("step-2.pt", b"t" * 2000, age=60)
    large = run.save("step-3.pt", os.urandom(200_000), age=30)
    real = run.store

    class Cut:
        """What is too large does not go through."""

        def __getattr__(self, name: str) -> object:
            def put_file(file: StoredFile, path: Path, facts: os.stat_result) -> int:
                if path == large:
                    raise AgentError("store-away", "the time is over")
                return real.put_file(file, path, facts)

            return put_file if name == "put_file" else getattr(real, name)

    publisher._store = Cut()  # type: ignore[assignment]
    publisher.bytes_per_second = 1000.0
    published = publisher.finish(time.time() + 60)

    assert [manifest.name for manifest in run.manifests()] == [small.name, "step-2.pt"]
    assert published.manifest == run.manifests()[-1]
    (left,) = published.left
    assert (left.name, left.why) == ("step-3.pt", "the time is over")

    # The whole of it goes as soon as there is time.
    publisher._store = real
    publisher.bytes_per_second = None
    assert publisher.finish(time.time() + 60).left == ()
    assert [manifest.name for manifest in run.manifests()][-1] == "step-3.pt"


def test_a_file_that_belongs_to_a_checkpoint_is_waited_for_but_not_for_ever(run: Run) -> None:
    run.save("optimizer-1.pt", age=100)
    half = run.put("model-1.pt", archive(NEW)[:-10], age=101)
    publisher = run.publisher()
    os.utime(half, (time.time() - 101, time.time() - 30))
    run.save("optimizer-1.pt", age=20)
    assert not publisher.publish_new(time.time())
    assert publisher.publish_new(time.time() + 60)
    (manifest,) = run.manifests()
    assert [file.path for file in manifest.files] == ["optimizer-1.pt"]


def test_two_publishers_at_once_leave_only_whole_checkpoints(run: Run) -> None:
    for number in range(1, 4):
        run.save(f"step-{number}.pt", bytes([number]) * 100, age=50 - number)
    failed: list[AgentError] = []

    def publish() -> None:
        try:
            run.publisher().publish_new(time.time())
        except AgentError as error:
            failed.append(error)

    threads = [threading.Thread(target=publish) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert {manifest.name for manifest in run.manifests()} == {"step-3.pt"}
    assert len(run.data()) == 1
