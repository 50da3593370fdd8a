"""Replaying: on the core byte for byte, against a live server, and what each calls a divergence."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from speech_engine_local import ConnectError, _replay_command
from speech_engine_local._commands import commands
from speech_engine_local.journal import Divergence, Journal, read_journal, replay, replay_live
from speech_engine_transports import SpeechEngineServer

from ..transports.clock import BACKENDS, virtual
from .memory import pair
from .recorded import (
    CLOSE,
    INIT,
    INTERRUPTED,
    PING,
    PONG,
    TURNS,
    MemoryServer,
    asks,
    ends,
    frame_of,
    journal_of,
    on_transcript,
    record,
    says,
    write,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from speech_engine_local.journal import Replay
    from speech_engine_transports._socket import Socket

TIMES = 100


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("journals"))


@pytest.fixture(scope="module")
def redacted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("redacted"), redact=True)


def out_bytes(journal: Journal) -> bytes:
    return b"".join(line.frame.encode() for line in journal.lines if line.dir == "out")


class TestOnTheCore:
    def test_fifty_turns_are_byte_identical_each_time(self, recorded: Path, redacted: Path) -> None:
        for path in (recorded, redacted):
            journal = read_journal(path)
            expected = out_bytes(journal)
            for _ in range(TIMES):
                made: list[str] = []
                found = replay(journal, exact=True, on_frame=made.append)
                assert found.divergence is None
                assert "".join(made).encode() == expected
                assert (found.turns, found.interruptions) == (TURNS, INTERRUPTED)

    def test_the_same_call_on_any_loop_is_the_same_journal(
        self, recorded: Path, tmp_path: Path
    ) -> None:
        for backend in BACKENDS:
            directory = tmp_path / backend
            directory.mkdir()
            again = record(directory, backend=backend)
            assert [(line.dir, line.frame) for line in read_journal(again).lines] == [
                (line.dir, line.frame) for line in read_journal(recorded).lines
            ]

    def test_it_tells_what_it_did(self, recorded: Path) -> None:
        journal = read_journal(recorded)
        progress: list[tuple[int, int]] = []
        found = replay(journal, on_progress=lambda *done: progress.append(done))
        total = len(journal.lines)
        assert found.frames_in + found.frames_out == total
        assert progress == [(done, total) for done in range(1, total + 1)]

    @given(st.data())
    def test_one_changed_character_is_found_in_its_line(
        self, recorded: Path, data: st.DataObject
    ) -> None:
        journal = read_journal(recorded)
        outs = [at for at, line in enumerate(journal.lines) if line.dir == "out"]
        at = data.draw(st.sampled_from(outs))
        line = journal.lines[at]
        frame = line.frame
        # Words are the agent's own: what the rules say is all the rest.
        begin = frame.find('"content":"') + len('"content":"')
        end = frame.find('","is_final"')
        position = data.draw(st.sampled_from([*range(begin), *range(end + 1, len(frame))]))
        changed = frame[:position] + "7" + frame[position + 1 :]
        lines = list(journal.lines)
        lines[at] = type(line)(line.number, line.t, line.dir, changed)
        found = replay(Journal(journal.conversation_id, tuple(lines)))
        if changed != frame:
            assert found.divergence is not None
            assert (found.divergence.line, found.divergence.expected) == (line.number, changed)

    @given(data=st.data())
    def test_a_journal_of_anything_is_replayed_without_an_exception(
        self, data: st.DataObject, recorded: Path
    ) -> None:
        whole = read_journal(recorded).lines
        lines = data.draw(st.lists(st.sampled_from(whole), max_size=30))
        for exact in (False, True):
            replay(Journal(None, tuple(lines)), exact=exact)

    @pytest.mark.parametrize(
        ("lines", "line", "got"),
        [
            ([("out", PONG)], 2, "nothing: no ping is open"),
            ([("in", PING), ("out", PONG), ("out", PONG)], 4, "nothing: no ping is open"),
            ([("in", INIT), ("out", says("hi"))], 3, "nothing: there is no turn to answer"),
            ([("in", asks("hi")), ("out", says(""))], 3, "nothing: text: expected at least one"),
            (
                [("in", asks("hi")), ("out", ends()), ("out", ends())],
                4,
                "nothing: turn 1 already has its terminator",
            ),
            (
                [("in", asks("hi")), ("in", asks("no", 2)), ("out", ends(2)), ("out", says("x"))],
                5,
                "nothing: turn 1 is no longer current",
            ),
            (
                [("in", asks("hi")), ("in", CLOSE), ("out", PONG)],
                4,
                "nothing: no ping is open",
            ),
            (
                [("in", asks("hi")), ("out", ends()), ("in", CLOSE), ("out", says("x"))],
                5,
                "nothing: session is closed",
            ),
            ([("in", asks("hi")), ("out", says("x", 9))], 3, frame_of(says("x", 1))),
            ([("in", asks("hi")), ("out", ends(1, "text"))], 3, frame_of(ends(1))),
            ([("in", asks("hi")), ("out", PING)], 3, "nothing: an agent never sends ping"),
            ([("in", asks("hi")), ("out", "{")], 3, "nothing: this is no message"),
        ],
    )
    def test_the_first_divergence_is_told(
        self, tmp_path: Path, lines: list[tuple[str, Any]], line: int, got: str
    ) -> None:
        journal = journal_of(tmp_path / "j", *lines, ("out", "later"))
        divergence = replay(journal).divergence
        assert divergence is not None
        assert divergence.line == line
        assert divergence.expected == journal.lines[line - 2].frame
        assert divergence.got.startswith(got)

    def test_its_repr_shows_no_words(self) -> None:
        assert repr(Divergence(3, "secret", "words")) == "Divergence(line=3)"

    @pytest.mark.parametrize(
        "lines",
        [
            [("in", asks("hi", None)), ("out", says("x", None)), ("in", asks("no", None))],
            [("in", asks("hi", 1)), ("in", asks("hi", 2)), ("out", says("x", 2)), ("out", ends(2))],
            [("in", asks("a")), ("out", ends()), ("in", asks("a")), ("out", says("x"))],
            [("in", asks("a")), ("in", asks("a")), ("out", says("x"))],
            [("in", PING), ("in", PING), ("in", asks("a")), ("out", PONG), ("out", says("x"))],
            [("in", "no json"), ("in", '"\udcff"'), ("in", PING), ("out", PONG)],
        ],
        ids=["null", "resent", "attempt", "duplicate", "pings", "garbage"],
    )
    def test_what_the_rules_allow_agrees(
        self, tmp_path: Path, lines: list[tuple[str, Any]]
    ) -> None:
        assert replay(journal_of(tmp_path / "j", *lines), exact=True).divergence is None

    def test_what_a_proxy_saw_cross_is_no_divergence(self, tmp_path: Path) -> None:
        journal = journal_of(
            tmp_path / "j",
            ("in", asks("count")),
            ("out", says("one")),
            ("in", PING),
            ("in", asks("stop", 2)),
            ("out", PONG),
            ("out", says("two")),
            ("in", PING),
            ("out", says("three")),
            ("out", says("stopped", 2)),
            ("in", CLOSE),
            ("out", ends(2)),
        )
        found = replay(journal)
        assert found.divergence is None
        assert found.crossed == (7, 9, 12)
        assert found.frames_out == 6
        exact = replay(journal, exact=True).divergence
        assert exact is not None
        assert exact.line == 7

    def test_a_stale_word_after_the_new_turn_has_begun_did_not_cross(self, tmp_path: Path) -> None:
        journal = journal_of(
            tmp_path / "j",
            ("in", asks("count")),
            ("in", asks("stop", 2)),
            ("out", says("stopped", 2)),
            ("out", says("one", 1)),
        )
        divergence = replay(journal).divergence
        assert divergence is not None
        assert divergence.line == 5

    def test_a_divergence_among_what_crossed_is_told(self, tmp_path: Path) -> None:
        lines = [("in", asks("a")), ("in", asks("b", 2)), ("out", says("")), ("out", ends(2))]
        divergence = replay(journal_of(tmp_path / "j", *lines)).divergence
        assert divergence is not None
        assert divergence.line == 4

    def test_nothing_crosses_a_terminator(self, tmp_path: Path) -> None:
        lines = [("in", asks("a")), ("in", asks("b", 2)), ("out", ends()), ("out", says("x"))]
        found = replay(journal_of(tmp_path / "j", *lines))
        assert found.divergence is not None
        assert (found.divergence.line, found.crossed) == (5, (4,))

    def test_another_spelling_is_the_same_message(self, tmp_path: Path) -> None:
        spelled = json.dumps(says("grüße"))
        journal = journal_of(tmp_path / "j", ("in", asks("hi")), ("out", spelled))
        assert replay(journal, messages=True).divergence is None
        divergence = replay(journal).divergence
        assert divergence == Divergence(3, spelled, frame_of(says("grüße")))


def in_virtual_time(body: Callable[[], Any], backend: str = "trio") -> Any:
    name, options = virtual(backend)
    return anyio.run(body, backend=name, backend_options=dict(options))


def live(journal: Journal, agent: Any = on_transcript, **options: Any) -> Replay:
    """Replay against a server in memory, in virtual time."""

    async def body() -> Replay:
        server = MemoryServer(on_transcript=agent)
        return await replay_live(journal, "ws://memory/", connect=server.connect, **options)

    found: Replay = in_virtual_time(body)
    return found


class Script:
    """A server that sends what the test says for each message that comes."""

    def __init__(self, **answers: list[Any]) -> None:
        self._answers = answers
        self.received: list[str] = []

    @asynccontextmanager
    async def connect(self, url: str, *, headers: Any = ()) -> AsyncGenerator[Socket]:
        ours, theirs = pair()
        async with anyio.create_task_group() as group:

            async def say(answer: Any) -> None:
                await theirs.send(frame_of(answer))

            async def serve() -> None:
                while (message := await theirs.recv()) is not None:
                    self.received.append(str(message))
                    asked = json.loads(message)
                    kind = asked["type"]
                    numbered = f"{kind}_{asked.get('event_id')}"
                    answers = self._answers.get(numbered) or self._answers.get(kind, [])
                    with suppress(ConnectionError):  # the replay hangs up where it diverges
                        for answer in answers:
                            await (theirs.close(1011) if answer is None else say(answer))

            group.start_soon(serve)
            try:
                yield ours
            finally:
                ours.end()


def scripted(journal: Journal, script: Script, **options: Any) -> Replay:
    async def body() -> Replay:
        return await replay_live(journal, "ws://memory/", connect=script.connect, **options)

    found: Replay = in_virtual_time(body)
    return found


class TestLive:
    def test_the_recorded_times_give_the_same_bytes(self, recorded: Path) -> None:
        journal = read_journal(recorded)
        for _ in range(3):
            found = live(journal, exact=True, speed=1)
            assert found.divergence is None
            assert found.frames_out == sum(line.dir == "out" for line in journal.lines)
            assert (found.turns, found.interruptions) == (TURNS, INTERRUPTED)

    @pytest.mark.parametrize("speed", [None, 1, 4])
    def test_the_words_agree_at_any_speed(self, recorded: Path, speed: float | None) -> None:
        found = live(read_journal(recorded), speed=speed)
        assert found.divergence is None
        assert (found.turns, found.interruptions) == (TURNS, INTERRUPTED)

    def test_other_pieces_are_the_same_words(self, recorded: Path) -> None:
        async def at_once(transcript: list[Any], session: Any) -> None:
            await session.send_response(f"{transcript[-1].content}: " + "word " * 20)

        assert live(read_journal(recorded), at_once).divergence is None
        exact = live(read_journal(recorded), at_once, exact=True).divergence
        assert exact is not None

    def test_other_words_are_found_where_they_begin(self, recorded: Path) -> None:
        async def wrong(transcript: list[Any], session: Any) -> None:
            said = transcript[-1].content
            last = "wort " if said == "turn 8" else "word "
            await session.send_response(f"{said}: {'word ' * 19}{last}")

        journal = read_journal(recorded)
        divergence = live(journal, wrong).divergence
        assert divergence is not None
        pieces = [line for line in journal.lines if '"event_id":8}' in line.frame]
        last_piece = [line for line in pieces if line.dir == "out"][-2]
        assert (divergence.line, divergence.expected) == (last_piece.number, last_piece.frame)

    @pytest.mark.parametrize(
        ("answers", "line", "got"),
        [
            ([says("one"), ends()], 3, frame_of(ends())),
            ([says("one "), says("three"), ends()], 4, frame_of(says("three"))),
            ([says("one two"), says(" three")], 5, frame_of(says(" three"))),
            ([says("one two"), ends(), ends()], 5, frame_of(ends())),
            ([says("one two"), ends(), says("x")], 5, frame_of(says("x"))),
            ([says("one "), None], 4, "nothing: the socket ended with 1011"),
            ([], 3, "nothing within 10 s"),
            ([says("one "), says("two")], 5, "nothing within 10 s"),
            ([says("x", 9)], 3, frame_of(says("x", 9))),
            ([PING], 3, frame_of(PING)),
            (["no json"], 3, "no json"),
        ],
    )
    def test_what_does_not_agree_is_told(
        self, tmp_path: Path, answers: list[Any], line: int, got: str
    ) -> None:
        journal = journal_of(
            tmp_path / "j",
            ("in", asks("count")),
            ("out", says("one ")),
            ("out", says("two")),
            ("out", ends()),
        )
        divergence = scripted(journal, Script(user_transcript=answers)).divergence
        assert divergence is not None
        assert (divergence.line, divergence.got) == (line, got)

    @pytest.mark.parametrize(
        ("answers", "line"),
        [
            ([says("one")], 3),
            ([says("one "), ends(), ends()], 5),
            ([says("one "), ends()], None),
        ],
    )
    def test_exact_is_frame_by_frame(
        self, tmp_path: Path, answers: list[Any], line: int | None
    ) -> None:
        lines = [("in", asks("a")), ("out", says("one ")), ("out", ends()), ("in", CLOSE)]
        journal = journal_of(tmp_path / "j", *lines)
        script = Script(user_transcript=answers, close=[None])
        divergence = scripted(journal, script, exact=True).divergence
        assert (divergence and divergence.line) == line

    def test_exact_wants_nothing_where_nothing_was_said(self, tmp_path: Path) -> None:
        journal = journal_of(tmp_path / "j", ("in", asks("a")), ("in", CLOSE))
        script = Script(user_transcript=[says("x")])
        divergence = scripted(journal, script, exact=True).divergence
        assert divergence is not None
        assert divergence.got == frame_of(says("x"))

    def test_pongs_are_waited_for(self, tmp_path: Path) -> None:
        journal = journal_of(tmp_path / "j", ("in", PING), ("out", PONG), ("in", CLOSE))
        assert scripted(journal, Script(ping=[PONG])).divergence is None
        missing = scripted(journal, Script()).divergence
        assert missing == Divergence(3, frame_of(PONG), "nothing within 10 s")

    def test_an_interrupted_reply_may_say_more_or_end(self, tmp_path: Path) -> None:
        journal = journal_of(
            tmp_path / "j",
            ("in", asks("count")),
            ("out", says("one ")),
            ("in", asks("stop", 2)),
            ("out", says("crossed ")),
            ("out", "no json"),
            ("out", says("nobody asked this", 99)),
            ("out", says("yes", 2)),
            ("out", ends(2)),
        )
        yes = [says("yes", 2), ends(2)]
        for first, line in (
            ([says("one ")], None),
            ([says("one "), says("crossed "), says("two"), ends()], None),
            ([says("one "), ends()], 5),  # what crossed was said, so it is owed before the end
            ([says("one "), says("two")], 5),
            ([ends()], 3),
        ):
            script = Script(user_transcript_1=first, user_transcript_2=yes)
            divergence = scripted(journal, script).divergence
            assert (divergence and divergence.line) == line

    def test_replies_without_ids_are_of_the_last_question(self, tmp_path: Path) -> None:
        journal = journal_of(
            tmp_path / "j",
            ("in", asks("a", None)),
            ("out", says("x", None)),
            ("out", ends(None)),
            ("in", asks("b", None)),
            ("out", says("x", None)),
            ("out", ends(None)),
        )
        script = Script(user_transcript=[says("x", None), ends(None)])
        found = scripted(journal, script)
        assert (found.divergence, found.frames_out) == (None, 4)

    def test_a_server_that_hangs_up_early_is_told(self, tmp_path: Path) -> None:
        journal = journal_of(tmp_path / "j", ("in", PING), ("out", PONG), ("in", PING))
        script = Script(ping=[PONG, None])

        async def body() -> Replay:
            return await replay_live(journal, "ws://x/", connect=script.connect, speed=0.01)

        divergence = in_virtual_time(body).divergence
        assert divergence == Divergence(4, frame_of(PING), "nothing: the socket has ended")

    def test_a_message_that_is_no_text_is_not_sent_again(self, tmp_path: Path) -> None:
        journal = journal_of(tmp_path / "j", ("in", '"\udcff"'), ("in", PING), ("out", PONG))
        script = Script(ping=[PONG])
        found = scripted(journal, script)
        assert (found.divergence, found.frames_in) == (None, 1)
        assert script.received == [frame_of(PING)]

    def test_an_empty_journal_agrees_with_everybody(self) -> None:
        assert scripted(Journal(None, ()), Script()).divergence is None

    def test_a_server_that_does_not_hang_up_is_left(self, tmp_path: Path) -> None:
        journal = journal_of(tmp_path / "j", ("in", CLOSE))
        assert scripted(journal, Script()).divergence is None

    def test_progress_is_told(self, tmp_path: Path) -> None:
        journal = journal_of(tmp_path / "j", ("in", PING), ("out", PONG))
        done: list[tuple[int, int]] = []
        scripted(journal, Script(ping=[PONG]), on_progress=lambda *each: done.append(each))
        assert done == [(1, 2), (2, 2)]

    def test_nobody_there_is_an_error(self, tmp_path: Path) -> None:
        async def body() -> None:
            await replay_live(journal_of(tmp_path / "j"), "ws://127.0.0.1:9/")

        with pytest.raises(ConnectError, match="nobody listens there"):
            anyio.run(body)


def command(*arguments: Any, **env: str | None) -> tuple[int, str, str]:
    done = CliRunner(env={"ELEVENLABS_API_KEY": None, **env}).invoke(
        commands, ["replay", *map(str, arguments)]
    )
    return done.exit_code, done.stdout, done.stderr


class TestTheCommand:
    def test_it_agrees(self, recorded: Path) -> None:
        code, out, err = command(recorded)
        assert (code, err) == (0, "")
        assert out.startswith("conv_50: agrees with the core, byte for byte; ")
        assert out.endswith(" out, 50 turns, 20 of them interrupted\n")

    def test_it_diverges(self, tmp_path: Path) -> None:
        frame = frame_of(says("x" * 300))[:-2] + "9}"
        path = write(tmp_path / "j", ("in", asks("hi")), ("out", frame), name=None)
        code, out, _ = command(path)
        assert code == 1
        first, expected, got, last = out.splitlines()
        assert first == "diverges at line 3"
        assert expected.startswith("  expected: ...xxx")
        assert expected.endswith('"event_id":9}')
        assert got.endswith('"event_id":1}')
        assert last.startswith("a conversation without a name: replayed up to there; 1 in, 0 out")

    def test_another_spelling_is_told_as_such(self, tmp_path: Path) -> None:
        path = write(tmp_path / "j", ("in", asks("hi")), ("out", json.dumps(says("x"))))
        code, out, _ = command(path)
        assert code == 1
        assert "  the same message in other bytes: --messages compares messages\n" in out
        code, out, _ = command(path, "--messages")
        assert (code, out[:23]) == (0, "c: agrees with the core")

    def test_what_crossed_is_told(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "j", ("in", asks("a")), ("in", asks("b", 2)), ("out", says("x" * 300))
        )
        code, out, _ = command(path)
        assert code == 0
        assert "1 frames crossed with an interruption, the first at line 4" in out
        assert command(path, "--exact")[0] == 1

    def test_json_stands_alone(self, tmp_path: Path) -> None:
        path = write(tmp_path / "j", ("in", INIT), ("out", PONG))
        path.write_bytes(path.read_bytes() + b'{"t"')
        code, out, err = command(path, "--json")
        assert (code, err) == (1, "")
        assert json.loads(out) == {
            "conversation_id": "c",
            "target": "core",
            "frames": {"in": 1, "out": 0},
            "turns": 0,
            "interruptions": 0,
            "crossed": [],
            "divergence": {
                "line": 3,
                "expected": frame_of(PONG),
                "got": "nothing: no ping is open",
            },
            "damage": {
                "line": 4,
                "offset": path.stat().st_size - 4,
                "reason": "expected a JSON object, got 4 bytes, cut short",
            },
        }

    def test_a_torn_end_is_told_and_is_no_failure(self, recorded: Path, tmp_path: Path) -> None:
        path = tmp_path / "torn"
        path.write_bytes(recorded.read_bytes()[:-10])
        code, out, err = command(path)
        assert code == 0
        assert "agrees with the core" in out
        assert err.startswith("speech-engine: damaged at line ")
        assert err.endswith(", cut short; read up to there\n")
        assert json.loads(command(path, "--json")[1])["divergence"] is None

    def test_damage_before_the_end_is_a_failure(self, recorded: Path, tmp_path: Path) -> None:
        lines = recorded.read_bytes().splitlines(keepends=True)
        path = tmp_path / "broken"
        path.write_bytes(b"".join([*lines[:9], b"{}\n", *lines[10:]]))
        code, out, err = command(path)
        assert code == 1
        assert "agrees with the core" in out
        assert "damaged at line 10 (byte " in err

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (None, "none.jsonl: No such file or directory"),
            (b"", "no journal: damaged at line 1 (byte 0): expected a first line, got an empty"),
            (b"words\n", "no journal: damaged at line 1 (byte 0): expected a JSON object"),
        ],
    )
    def test_no_journal_is_one_line(
        self, tmp_path: Path, content: bytes | None, complaint: str
    ) -> None:
        path = tmp_path / "none.jsonl"
        if content is not None:
            path.write_bytes(content)
        code, out, err = command(path)
        assert (code, out) == (1, "")
        (line,) = err.splitlines()
        assert complaint in line

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["--speed", "2"], "--speed: expected together with URL"),
            (["ws://x", "--messages"], "--messages: expected without URL"),
            (["ws://x", "--speed", "0"], "--speed"),
        ],
    )
    def test_wrong_usage_is_code_2(self, arguments: list[str], complaint: str) -> None:
        code, _, err = command("file", *arguments)
        assert code == 2
        assert complaint in err

    def test_nobody_there_is_one_line(self, recorded: Path) -> None:
        code, _, err = command(recorded, "ws://127.0.0.1:9/ws")
        assert code == 1
        (line,) = err.splitlines()
        assert "127.0.0.1:9: nobody listens there" in line

    def test_an_address_that_is_none_is_one_line(self, recorded: Path) -> None:
        code, _, err = command(recorded, "http://127.0.0.1")
        assert code == 1
        assert "url: expected ws://host:port/path" in err

    def test_progress_is_shown_on_a_terminal_only(
        self, recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = _replay_command.Options(
            url=None,
            exact=True,
            messages=True,
            speed=None,
            timeout=1,
            api_key=None,
            as_json=False,
        )
        assert _replay_command.run(str(recorded), options) == 0
        assert capsys.readouterr().err == ""
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        assert _replay_command.run(str(recorded), options) == 0
        shown = capsys.readouterr().err
        assert shown.count("\r") == 102
        assert shown.endswith("\r\x1b[K")


@pytest.mark.anyio
async def test_the_command_talks_with_a_real_server(tmp_path: Path) -> None:
    async def greet(transcript: list[Any], session: Any) -> None:
        await session.send_response(f"You said {transcript[-1].content}")

    path = write(
        tmp_path / "j",
        ("in", INIT),
        ("in", asks("hi")),
        ("out", says("You said ")),
        ("out", says("hi")),
        ("out", ends()),
        ("in", PING),
        ("out", PONG),
        ("in", CLOSE),
    )
    server = SpeechEngineServer(host="127.0.0.1", port=0, api_key="k", on_transcript=greet)
    async with server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        run = anyio.to_thread.run_sync
        agreed = await run(lambda: command(path, url, ELEVENLABS_API_KEY="k"))
        exact = await run(lambda: command(path, url, "--exact", "--api-key", "k", "--json"))
        unsigned = await run(lambda: command(path, url))
    assert agreed[0] == 0
    assert "c: agrees with the server; 4 in, 3 out, 1 turns" in agreed[1]
    found = json.loads(exact[1])
    assert exact[0] == 1
    assert found["divergence"]["line"] == 4
    assert found["target"] == url
    assert unsigned[0] == 1
    assert "no token was sent" in unsigned[2]
