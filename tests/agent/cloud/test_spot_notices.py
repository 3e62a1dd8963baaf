"""The reader of EC2's notices: prompt, in nobody's way, and silent where there is nothing to hear."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

import pytest

from runctl.agent.cloud.metadata import Metadata
from runctl.agent.cloud.spot_notices import INTERRUPTION, LIFE_CYCLE, REBALANCE, NoticeReader
from runctl.agent.interruption import Notice
from tests.agent.driver import until
from tests.agent.metadata_service import metadata_service

NOON = 1795867200.0
NOTICE = '{"action": "terminate", "time": "2026-11-28T12:00:00Z"}'


class Service:
    """A metadata service that answers what it is told to."""

    clock_ahead = 0.0

    def __init__(self, life_cycle: str | None = "spot") -> None:
        self.answers: dict[str, str | None] = {LIFE_CYCLE: life_cycle}
        self.fails = False
        self.asked: list[str] = []
        self.hold: Callable[[], None] = lambda: None

    def get(self, path: str) -> str | None:
        self.asked.append(path)
        self.hold()
        if self.fails:
            raise OSError("nobody answers")
        return self.answers.get(path)


def ended(reader: NoticeReader) -> bool:
    return bool(until(lambda: not reader.listens, "the reader's end"))


def test_a_notice_and_a_recommendation_are_heard_and_told_of_once_each() -> None:
    service, news = Service(), queue.Queue[int]()
    reader = NoticeReader(service, lambda: news.put(1))
    reader.start()
    reader.read_now(10)
    assert (reader.interruption, reader.rebalance_at) == (None, None)
    service.answers[REBALANCE] = '{"noticeTime": "2026-11-28T12:00:00Z"}'
    reader.read_now(10)
    assert reader.rebalance_at == NOON
    service.answers[INTERRUPTION] = NOTICE
    reader.read_now(10)
    assert reader.interruption == Notice(NOON)
    reader.read_now(10)
    assert news.qsize() == 2
    reader.close()
    assert ended(reader)


def test_what_it_cannot_read_is_no_notice_and_the_next_one_is_heard() -> None:
    service = Service()
    reader = NoticeReader(service)
    reader.start()
    service.answers.update({INTERRUPTION: "<html>", REBALANCE: "{}"})
    reader.read_now(10)
    service.fails = True
    reader.read_now(10)
    assert (reader.interruption, reader.rebalance_at) == (None, None)
    service.fails = False
    service.answers[INTERRUPTION] = NOTICE
    reader.read_now(10)
    assert reader.interruption is not None
    reader.close()


def test_an_on_demand_machine_is_asked_once_and_no_more() -> None:
    service = Service("on-demand")
    reader = NoticeReader(service)
    reader.start()
    assert ended(reader)
    assert service.asked == [LIFE_CYCLE]


def test_a_service_that_is_silent_at_first_hides_no_notice_for_ever() -> None:
    service = Service()
    service.fails = True
    reader = NoticeReader(service, pauses=[0, 0, 0], later=0.01)
    reader.start()
    until(lambda: len(service.asked) >= 10, "ten questions")
    assert set(service.asked) == {LIFE_CYCLE}
    service.answers[INTERRUPTION] = NOTICE
    service.fails = False
    until(lambda: reader.interruption is not None, "the notice")
    reader.close()


def test_whoever_asks_a_service_that_hangs_waits_no_longer_than_it_said() -> None:
    service, release = Service(), threading.Event()
    service.hold = release.wait  # type: ignore[assignment]
    reader = NoticeReader(service)
    reader.start()
    reader.read_now(0.05)
    assert reader.interruption is None
    assert reader.listens
    release.set()
    reader.close()


@pytest.mark.parametrize("ahead", [0.0, -600.0, 7200.0])
def test_the_end_of_a_machine_whose_clock_is_wrong_is_told_by_that_clock(ahead: float) -> None:
    with metadata_service() as service:
        service.clock_ahead = ahead
        reader = NoticeReader(Metadata(service.variables, 5.0))
        reader.start()
        service.interrupt(120)
        reader.read_now(10)
        reader.close()
        assert reader.interruption is not None
        assert reader.interruption.machine_ends_at == pytest.approx(time.time() + 120, abs=15)


def test_a_token_that_has_ended_early_hides_no_notice() -> None:
    with metadata_service() as service:
        metadata = Metadata(service.variables, 5.0)
        assert metadata.get("spot/instance-action") is None
        service.tokens.clear()
        service.interrupt(60)
        assert metadata.get("spot/instance-action") is not None
