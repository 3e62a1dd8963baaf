"""How the machines of a run hear of each other: each reports to rank 0's agent, which answers what holds for all.

A report is a line of JSON over TCP, twice a second, and so is its answer. Nobody is needed for that but the machines:
stopping, time limits and failures reach all of them with no computer watching.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hmac
import json
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Optional

from runctl._dataclasses import dataclass
from runctl.agent.attempt.node_group import BEAT_SECONDS, NodeGroup, NodeState, Report, WhenLost
from runctl.agent.encoding import from_json, to_json
from runctl.agent.end_reason import EndReason
from runctl.agent.errors import AgentError
from runctl.agent.node_spec import NodeCause, NodeSpec

ANSWER_SECONDS = 3.0
"""For one report and its answer."""
FAREWELL_SECONDS = 10.0
"""How long a machine that has ended tries to say so; and how long rank 0 stays until all have heard why they end."""
LISTEN_SECONDS = 20.0
"""How long rank 0 waits for its port to be free."""
LONGEST_LINE = 1 << 16


@dataclass(frozen=True)
class Answer:
    """What holds for all machines, as rank 0 says it."""

    start: bool = False
    """All are ready: the script is to be started."""
    cause: Optional[NodeCause] = None
    waiting: tuple[int, ...] = ()
    gone: tuple[int, ...] = ()
    round: int = 0
    """How often the script begins again, on the machines that are left."""
    resumes: Optional[str] = None
    """See `NodeGroup.resumes`."""


class Peers:
    """This machine's part of it. Made by the attempt; `start` begins to report."""

    def __init__(
        self, node: NodeSpec, when_lost: WhenLost, phase: Callable[[], str], wake: Callable[[], None]
    ) -> None:
        self.node = node
        self._when_lost = when_lost
        self.round = 0
        """The one that this machine is in."""
        self._phase = phase
        self._wake = wake
        self._state = NodeState.PREPARING
        self._own: NodeCause | None = None
        self._lost: NodeCause | None = None
        self._heard = Answer()
        self._heard_at = time.monotonic()
        self._began = time.monotonic()
        self._heard_ever = False
        self._lock = threading.Lock()
        self._now = threading.Event()
        self._closed = threading.Event()
        self._told_end = threading.Event()
        self._group: NodeGroup | None = None
        self._server: socketserver.ThreadingTCPServer | None = None
        self._answered: dict[int, bool] = {}
        self._connection: socket.socket | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Raises `AgentError` (``setup-failed``) where rank 0 cannot listen."""
        if self.node.rank == 0:
            self._group = NodeGroup(self.node, time.monotonic(), self._when_lost)
            self._server = self._listen()
            self._run(self._server.serve_forever, 0.1)
        self._run(self._report_until_closed)

    @property
    def may_start(self) -> bool:
        """All machines are ready."""
        return self._heard.start and self._heard.round == self.round

    @property
    def waiting(self) -> tuple[int, ...]:
        """The others that are not."""
        return tuple(rank for rank in self._heard.waiting if rank != self.node.rank)

    @property
    def gone(self) -> tuple[int, ...]:
        """Those without which the run goes on."""
        return self._heard.gone

    @property
    def cause(self) -> NodeCause | None:
        """What has happened on another machine, for which this one is to end."""
        cause = self._heard.cause
        return cause if cause is not None and cause.rank != self.node.rank else None

    @property
    def lost(self) -> NodeCause | None:
        """This machine alone is lost to the run: rank 0 has given it up, or could not be reached from here, and has
        gone on. ``None`` where it is not, or where rank 0 is silent, which may be lost itself."""
        return self._lost if self.cause is None else None

    @property
    def must_restart(self) -> bool:
        """A machine is gone, for which the script is to begin again here."""
        stays = self._lost is None and not self.is_left_behind
        return self._heard.cause is None and self._heard.round > self.round and stays

    @property
    def resumes(self) -> str | None:
        """The checkpoint from which all begin again in this machine's round; ``None``: it is not settled yet."""
        return self._heard.resumes if self._heard.round == self.round else None

    @property
    def is_left_behind(self) -> bool:
        """The others go on without this machine."""
        return self.node.rank in self._heard.gone

    def next_round(self) -> tuple[int, ...]:
        """The script has ended here, and begins again; the machines that are gone."""
        heard = self._heard
        with self._lock:
            self._own, self._state, self.round = self._lost, NodeState.PREPARING, heard.round
        self._now.set()
        return heard.gone

    def settle(self, resumes: str) -> None:
        """Rank 0 alone: all begin again from this checkpoint."""
        with self._lock:
            if self._group is not None and self._group.round == self.round:
                self._group.resumes = resumes
        self._now.set()

    @property
    def knows_why(self) -> bool:
        """It is known why the run ends, or that the script begins again."""
        return self._heard.cause is not None or self.must_restart

    def is_ready(self) -> None:
        """Everything but the script is there."""
        self._change(NodeState.READY)

    def is_running(self) -> None:
        """The script has been started."""
        self._change(NodeState.RUNNING)

    def ends(self, cause: NodeCause) -> None:
        """This machine ends by itself. The first that is said counts."""
        with self._lock:
            if self._own is None:
                self._own = cause
        self._now.set()

    def has_ended(self) -> None:
        """The script has ended here, and nothing is left of it."""
        self._change(NodeState.ENDED)

    @property
    def others_go_on(self) -> tuple[int, ...]:
        """The machines that rank 0 has to stay for; none on others."""
        if self._group is None:
            return ()
        with self._lock:
            return tuple(rank for rank in self._group.going() if rank != 0)

    def close(self) -> None:
        """The others know how it ended here, as far as they can be reached."""
        # Whose failure it was is decided only when no machine is silent any more.
        deadline = time.monotonic() + FAREWELL_SECONDS + self.node.silence_seconds
        while self._is_needed() and time.monotonic() < deadline:
            time.sleep(BEAT_SECONDS / 5)
        self._closed.set()
        self._now.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        for thread in self._threads:
            thread.join(ANSWER_SECONDS)

    def _is_needed(self) -> bool:
        """Something is not said, or not known, yet."""
        if self.is_left_behind:
            return not self._told_end.is_set()
        if self._own is not None and self._heard.cause is None:
            return True
        if self._group is None:
            return not self._told_end.is_set() and self._heard.cause is None
        with self._lock:
            return any(not self._answered.get(rank) for rank in self._group.going() if rank != 0)

    def _run(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _change(self, state: NodeState) -> None:
        self._state = state
        self._now.set()

    def _report_until_closed(self) -> None:
        while not self._closed.is_set():
            self._now.clear()
            before = self._heard
            with self._lock:
                report = Report(self.node.rank, self._state, self._phase(), self._own, self.round)
            if self._group is not None:
                self._take(self._answer(report))
            else:
                self._send(report)
            if self._heard != before:
                self._wake()
            self._now.wait(BEAT_SECONDS)
        if self._connection is not None:
            self._connection.close()

    def _send(self, report: Report) -> None:
        """Reports to rank 0, and takes its answer."""
        try:
            answer = self._exchange({"key": self.node.secret, **to_json(report)})
            self._take(from_json(Answer, answer))
        except (OSError, ValueError, KeyError, TypeError):
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._judge_silence()
            return
        if report.state is NodeState.ENDED:
            self._told_end.set()

    def _exchange(self, message: Mapping[str, Any]) -> Any:
        if self._connection is None:
            address = (self.node.head, self.node.group_port)
            self._connection = socket.create_connection(address, ANSWER_SECONDS)
        self._connection.sendall(json.dumps(message).encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            piece = self._connection.recv(LONGEST_LINE)
            if not piece or len(data) > LONGEST_LINE:
                raise ConnectionError("rank 0 has closed the connection")
            data += piece
        return json.loads(data)

    def _take(self, answer: Answer) -> None:
        if self.node.rank in answer.gone:
            message = "the other machines went on without this one, which they had not heard for a while"
            self._lose(message, time.time())
        elif answer.cause is not None and answer.cause.rank == self.node.rank:
            self._lose(answer.cause.message, answer.cause.at)
        self._heard, self._heard_at, self._heard_ever = answer, time.monotonic(), True

    def _lose(self, message: str, at: float) -> None:
        """The run has lost this machine, unless the script has ended here before, or ends by itself."""
        with self._lock:
            if self._own is None and self._state is not NodeState.ENDED:
                self._own = self._lost = NodeCause(self.node.rank, EndReason.LOST.value, message, at)

    def _judge_silence(self) -> None:
        """Rank 0 is a machine like the others: without it the run ends. If it is heard again, it was this one."""
        if self._heard.cause is not None:
            return
        now = time.monotonic()
        silent = now - (self._heard_at if self._heard_ever else self._began)
        if silent < (self.node.silence_seconds if self._heard_ever else self.node.join_seconds):
            return
        what = f"has been silent for {silent:.0f} s" if self._heard_ever else "did not report"
        message, at = f"node 0 ({self.node.head}) {what}", time.time() - silent
        self._lose(f"node {self.node.rank} could not reach node 0 for {silent:.0f} s", at)
        cause = NodeCause(0, EndReason.LOST.value, message, at)
        self._heard = dataclasses.replace(self._heard, cause=cause)

    def _answer(self, report: Report) -> Answer:
        """Rank 0 alone."""
        with self._lock:
            group = self._group
            if group is None:
                raise ValueError("only rank 0 answers")
            now, epoch = time.monotonic(), time.time()
            group.hear(report, now, epoch)
            group.judge(now, epoch)
            if group.cause is not None:
                self._answered[report.rank] = True
            return Answer(
                group.started,
                group.cause,
                group.waiting_for(),
                tuple(sorted(group.gone)),
                group.round,
                group.resumes,
            )

    def _listen(self) -> socketserver.ThreadingTCPServer:
        peers = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = 30

            def handle(self) -> None:
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    while True:
                        data = self.rfile.readline(LONGEST_LINE)
                        if not data:
                            return
                        message = json.loads(data)
                        if not hmac.compare_digest(str(message.pop("key")), peers.node.secret):
                            return
                        report = from_json(Report, message)
                        if not 0 < report.rank < peers.node.count:
                            return
                        self.wfile.write(json.dumps(to_json(peers._answer(report))).encode() + b"\n")

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 (socketserver's)
                sys.stderr.write(f"a report from {client_address} could not be answered\n")

        deadline = time.monotonic() + LISTEN_SECONDS
        while True:
            try:
                return Server((self.node.address, self.node.group_port), Handler)
            except OSError as error:
                if time.monotonic() >= deadline:
                    where = f"{self.node.address}:{self.node.group_port}"
                    raise AgentError(
                        "setup-failed", f"the other nodes cannot be heard at {where}: {error.strerror}"
                    ) from error
                time.sleep(BEAT_SECONDS)
