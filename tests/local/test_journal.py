"""The file: what is written, what a crash leaves, what damage does, what redaction hides."""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from speech_engine_local import LocalEngine, _journal
from speech_engine_local.journal import (
    Damage,
    Journal,
    JournalWriter,
    Recorder,
    read_journal,
    redact,
    replay,
)
from speech_engine_proto import RemoteProtocolError, wire
from speech_engine_proto.testing import frames, garbage
from speech_engine_transports import SpeechEngineServer

from .memory import pair
from .recorded import CLOSE, INIT, PING, PONG, asks, ends, frame_of, only_file, record, says, write

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("journals"))


class TestWriting:
    def test_the_lines_are_those_of_the_format(self, tmp_path: Path) -> None:
        clock = Clock()
        writer = JournalWriter(tmp_path, clock=clock)
        writer.record("in", frame_of(INIT))
        clock.now += 1.25
        writer.record("out", "grüße")
        writer.close()
        assert writer.path is not None
        first, second, third = map(json.loads, writer.path.read_text("ascii").splitlines())
        assert first == {"version": 1, "conversation_id": "c"}
        assert second == {"t": 0.0, "dir": "in", "frame": frame_of(INIT)}
        assert third == {"t": 1.25, "dir": "out", "frame": "grüße"}
        assert (writer.frames_in, writer.frames_out) == (1, 1)

    def test_only_the_owner_can_read_it(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            recorder = Recorder(tmp_path / "new" / "journals")
            writer = recorder.writer()
            writer.record("in", frame_of(INIT))
            writer.close()
        finally:
            os.umask(before)
        assert writer.path is not None
        assert stat.S_IMODE(writer.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(recorder.directory.stat().st_mode) == 0o700

    def test_calls_of_one_name_have_a_file_each(self, tmp_path: Path) -> None:
        for _ in range(3):
            writer = JournalWriter(tmp_path)
            writer.record("in", frame_of(INIT))
            writer.close()
        assert len(list(tmp_path.iterdir())) == 3

    def test_a_name_cannot_leave_the_directory(self, tmp_path: Path) -> None:
        directory = tmp_path / "journals"
        directory.mkdir()
        writer = JournalWriter(directory)
        name = "../../etc/\0passwd " + "x" * 300
        writer.record("in", json.dumps({"type": "init", "conversation_id": name}))
        writer.close()
        (path,) = directory.iterdir()
        assert len(path.name) < 120
        assert read_journal(path).conversation_id == name

    @pytest.mark.parametrize("first", [frame_of(asks("hi")), "no json", ""])
    def test_without_init_it_has_no_name(self, tmp_path: Path, first: str) -> None:
        writer = JournalWriter(tmp_path)
        writer.record("in", first)
        writer.close()
        assert writer.path is not None
        journal = read_journal(writer.path)
        assert (journal.conversation_id, journal.lines[0].frame) == (None, first)

    def test_without_a_frame_there_is_no_file(self, tmp_path: Path) -> None:
        JournalWriter(tmp_path).close()
        assert list(tmp_path.iterdir()) == []

    def test_after_the_end_nothing_is_recorded(self, tmp_path: Path) -> None:
        writer = JournalWriter(tmp_path)
        writer.record("in", frame_of(INIT))
        writer.close()
        writer.close()
        writer.record("out", "late")
        assert writer.path is not None
        assert len(read_journal(writer.path).lines) == 1

    def test_each_frame_is_in_the_file_at_once(self, tmp_path: Path) -> None:
        writer = JournalWriter(tmp_path, fsync=True)
        for number in range(1, 4):
            writer.record("in", frame_of(PING))
            assert writer.path is not None
            assert len(read_journal(writer.path).lines) == number
        writer.close()

    def test_a_disk_that_is_full_ends_the_journal_and_not_the_call(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        writer = JournalWriter(tmp_path)
        writer.record("in", frame_of(INIT))
        room = [10]

        def write(file: int, data: bytes) -> int:
            if room:
                return os.pwrite(file, data[: room.pop()], 0)
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write)
            writer.record("out", "secret words")
        writer.record("out", "more")
        (warning,) = caplog.messages
        assert warning == "the journal ends here: No space left on device"
        assert writer.path is not None
        journal = read_journal(writer.path)
        assert len(journal.lines) == 1
        assert journal.damage is not None
        assert journal.damage.is_torn_end

    def test_a_directory_that_takes_no_files_is_told_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="file"):
            Recorder(tmp_path / "file")

    def test_a_call_that_was_cut_off_leaves_no_open_file(self, tmp_path: Path) -> None:
        before = len(os.listdir("/proc/self/fd"))
        writer: JournalWriter | None = JournalWriter(tmp_path)
        assert writer is not None
        writer.record("in", frame_of(INIT))
        writer = None
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == before

    def test_a_process_that_is_killed_loses_nothing_that_it_recorded(self, tmp_path: Path) -> None:
        script = (
            "import sys\n"
            "from speech_engine_local.journal import JournalWriter\n"
            "writer = JournalWriter(sys.argv[1])\n"
            "number = 0\n"
            "while True:\n"
            "    number += 1\n"
            "    writer.record('out', str(number) + 'x' * 2000)\n"
            "    print(number, flush=True)\n"
        )
        command = [sys.executable, "-c", script, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if int(line) == 200:
                    break
            process.send_signal(signal.SIGKILL)
            told = [int(line) for line in process.stdout.read().splitlines() if line] or [200]
        (path,) = tmp_path.iterdir()
        journal = read_journal(path)
        assert journal.damage is None or journal.damage.is_torn_end
        numbers = [int(line.frame.rstrip("x")) for line in journal.lines]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= told[-1]

    @given(st.binary(max_size=40))
    @example(b"\xff\xfe")
    @example("\ud800".encode("utf-8", "surrogatepass"))
    def test_every_message_is_read_back_as_it_came(self, message: bytes) -> None:
        frame = _journal.to_text(message)
        line = json.loads(json.dumps(frame))
        back = _journal.to_message(line)
        assert (back if isinstance(back, bytes) else back.encode()) == message

    @given(st.text(st.characters(exclude_categories=()), max_size=20))
    def test_every_text_is_read_back(self, text: str) -> None:
        with tempfile.TemporaryDirectory() as directory:
            writer = JournalWriter(directory)
            writer.record("out", text)
            writer.close()
            assert writer.path is not None
            (line,) = read_journal(writer.path).lines
        assert line.frame == text

    def test_the_repr_shows_no_words(self, recorded: Path) -> None:
        journal = read_journal(recorded)
        assert "turn" not in repr(journal)
        assert "turn" not in repr(journal.lines[1])


@pytest.mark.anyio
class TestRecordingASocket:
    async def test_it_passes_everything_on(self, tmp_path: Path) -> None:
        ours, theirs = pair()
        socket = Recorder(tmp_path)(ours)
        theirs.other.put(frame_of(INIT))
        assert await socket.recv() == frame_of(INIT)
        await socket.send("one")
        assert socket.try_send("two")
        assert [await theirs.recv(), await theirs.recv()] == ["one", "two"]
        assert socket.request is ours.request
        await socket.close(1001, "away")
        assert (ours.closed, socket.closed_with) == ((1001, "away"), 1001)
        lines = read_journal(only_file(tmp_path) or "").lines
        assert [line.dir for line in lines] == ["in", "out", "out"]

    async def test_what_could_not_be_written_at_once_is_recorded_once(self, tmp_path: Path) -> None:
        ours, _ = pair(stalled=True)
        socket = Recorder(tmp_path)(ours)
        assert not socket.try_send("pong")
        assert only_file(tmp_path) is None

    @pytest.mark.parametrize("end", ["recv", "abort"])
    async def test_it_ends_with_the_socket(self, tmp_path: Path, end: str) -> None:
        ours, theirs = pair()
        socket = Recorder(tmp_path)(ours)
        await socket.send("one")
        if end == "recv":
            theirs.end()
            assert await socket.recv() is None
        else:
            socket.abort()
            assert ours.aborted
        with pytest.raises(ConnectionError):
            await socket.send("two")
        assert len(read_journal(only_file(tmp_path) or "").lines) == 1


def damage_of(tmp_path: Path, data: bytes) -> Journal:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(data)
    return read_journal(path)


HEAD = b'{"version": 1, "conversation_id": "c"}\n'
LINE = b'{"t": 0.5, "dir": "in", "frame": "x"}\n'


class TestReading:
    def test_a_whole_journal_has_no_damage(self, tmp_path: Path) -> None:
        journal = damage_of(tmp_path, HEAD + LINE + LINE)
        assert journal.damage is None
        assert [(line.number, line.t, line.dir) for line in journal.lines] == [
            (2, 0.5, "in"),
            (3, 0.5, "in"),
        ]

    def test_more_fields_are_no_damage(self, tmp_path: Path) -> None:
        more = b'{"t": 1, "dir": "out", "frame": "", "note": [1]}\n'
        assert damage_of(tmp_path, HEAD + more).damage is None

    def test_a_last_line_that_only_lacks_its_end_is_read(self, tmp_path: Path) -> None:
        journal = damage_of(tmp_path, HEAD + LINE.rstrip())
        assert (len(journal.lines), journal.damage) == (1, None)

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b"\n", "expected a JSON object, got 1 bytes"),
            (b"\0" * 20, "expected a JSON object, got 58 bytes"),
            (b"[]\n", "expected a JSON object, got list"),
            (b"\xff\n", "expected a JSON object, got 2 bytes"),
            (b"[" * 100_000 + b"\n", "expected a JSON object, got 100001 bytes"),
            (b'{"t": 1' + b"0" * 5000 + b"}\n", "expected a JSON object, got 5009 bytes"),
            (b'{"dir": "in", "frame": "x"}\n', "t: expected seconds, got something else"),
            (b'{"t": true, "dir": "in", "frame": ""}\n', "t: expected seconds"),
            (b'{"t": -1, "dir": "in", "frame": ""}\n', "t: expected seconds"),
            (b'{"t": NaN, "dir": "in", "frame": ""}\n', "t: expected seconds"),
            (b'{"t": 1e999, "dir": "in", "frame": ""}\n', "t: expected seconds"),
            (b'{"t": 1' + b"0" * 400 + b', "dir": "in", "frame": ""}\n', "t: expected seconds"),
            (b'{"t": 1, "dir": "up", "frame": ""}\n', 'dir: expected "in" or "out"'),
            (b'{"t": 1, "dir": ["in"], "frame": ""}\n', 'dir: expected "in" or "out"'),
            (b'{"t": 1, "dir": "in", "frame": null}\n', "frame: expected a text, got NoneType"),
        ],
    )
    def test_damage_is_told_with_its_place(self, tmp_path: Path, line: bytes, reason: str) -> None:
        journal = damage_of(tmp_path, HEAD + LINE + line + LINE)
        assert len(journal.lines) == 1
        damage = journal.damage
        assert damage is not None
        assert (damage.line, damage.offset) == (3, len(HEAD) + len(LINE))
        assert str(damage).startswith(f"damaged at line 3 (byte {damage.offset}): {reason[:40]}")

    @pytest.mark.parametrize(
        ("head", "reason"),
        [
            (b"", "expected a first line, got an empty file"),
            (b"{}\n", "version: expected 1, got NoneType"),
            (b'{"version": 2}\n', "version: expected 1, got 2"),
            (b'{"version": true}\n', "version: expected 1, got bool"),
            (
                b'{"version": 1, "conversation_id": 7}\n',
                "conversation_id: expected a text, got int",
            ),
            (LINE, "version: expected 1, got NoneType"),
        ],
    )
    def test_without_a_first_line_it_is_none(
        self, tmp_path: Path, head: bytes, reason: str
    ) -> None:
        journal = damage_of(tmp_path, head)
        assert journal.damage == Damage(1, 0, reason, is_torn_end=head == b"")
        assert journal.lines == ()

    def test_a_line_without_end_is_not_read_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_journal, "MAX_LINE_BYTES", 100)
        journal = damage_of(tmp_path, HEAD + b"x" * 1000)
        assert journal.damage is not None
        assert journal.damage.reason == "expected a line of less than 100 bytes, got more"
        assert not journal.damage.is_torn_end

    def test_a_file_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            read_journal(tmp_path / "none")

    @given(data=st.data())
    def test_cut_anywhere_it_is_read_up_to_there(self, recorded: Path, data: st.DataObject) -> None:
        whole = recorded.read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        with tempfile.TemporaryDirectory() as directory:
            journal = damage_of(Path(directory), whole[:cut])
        lines = read_journal(recorded).lines
        ends = whole[:cut].count(b"\n")
        # The head, then each whole line, and the last one too where only its end is missing.
        assert len(journal.lines) in (max(0, ends - 1), ends)
        assert journal.lines == lines[: len(journal.lines)]
        assert journal.damage is None or journal.damage.is_torn_end

    @given(position=st.integers(0, 10**9), new=st.binary(max_size=20), length=st.integers(0, 50))
    def test_overwritten_anywhere_it_is_read_up_to_there(
        self, recorded: Path, position: int, new: bytes, length: int
    ) -> None:
        whole = recorded.read_bytes()
        position %= len(whole)
        with tempfile.TemporaryDirectory() as directory:
            broken = whole[:position] + new + whole[position + length :]
            journal = damage_of(Path(directory), broken)
        before = whole[:position].count(b"\n")
        untouched = read_journal(recorded).lines[: max(0, before - 1)]
        assert journal.lines[: len(untouched)] == untouched
        assert journal.damage is None or journal.damage.line > before

    @given(st.binary(max_size=200))
    def test_anything_at_all_is_read_without_an_exception(self, data: bytes) -> None:
        with tempfile.TemporaryDirectory() as directory:
            assert damage_of(Path(directory), data).damage is not None


def verdict(frame: str) -> tuple[Any, ...] | None:
    """What the protocol makes of a frame, words aside."""
    try:
        message = wire.decode(_journal.to_message(frame))
    except RemoteProtocolError:
        return None
    match message:
        case wire.Init(name):
            return message.type, len(name)
        case wire.UserTranscript(messages, event_id):
            shapes = tuple((len(m.role), len(m.content)) for m in messages)
            return message.type, event_id, shapes
        case wire.AgentResponse(content, is_final, event_id):
            return message.type, len(content), is_final, event_id
        case wire.Error(text):
            return message.type, len(text)
        case wire.Unknown(name):
            return "unknown", len(name)
        case _:
            return (message.type,)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class TestRedaction:
    @pytest.mark.parametrize(
        ("frame", "expected"),
        [
            (INIT, INIT),
            (PING, PING),
            (CLOSE, CLOSE),
            (PONG, PONG),
            (ends(2), ends(2)),
            (says("Your code\nis 4711, 😀!"), says("xxxx xxxx xx xxxxx xx")),
            (
                asks("My name is Ann") | {"mood": "angry", "n": -12.5e3},
                asks("xx xxxx xx xxx") | {"xxxx": "xxxxx", "x": -11.1e1},
            ),
            ({"type": "error", "message": "no Ann"}, {"type": "error", "message": "xx xxx"}),
            ({"type": "Ann", "a": {"type": "ping"}}, {"type": "xxx", "x": {"type": "xxxx"}}),
            (
                {"type": "init", "conversation_id": "Ann said no"},
                {"type": "init", "conversation_id": "xxx xxxx xx"},
            ),
            (
                {"type": "error", "message": "", "x": [{"conversation_id": "Ann", "event_id": 42}]},
                {"type": "error", "message": "", "x": [{"conversation_id": "xxx", "event_id": 11}]},
            ),
        ],
    )
    def test_words_go_and_the_rest_stays(
        self, frame: dict[str, Any], expected: dict[str, Any]
    ) -> None:
        # An exponent is written here as JSON would be by hand: Python spells it otherwise.
        before = frame_of(frame).replace("-12500.0", "-12.5e3")
        assert redact(before) == frame_of(expected).replace("-111.0", "-11.1e1")

    @pytest.mark.parametrize(
        "frame",
        ["Ann said no", '{"type": "ping"', '"\udcff"', "[" * 100_000, '\ufeff{"type":"ping"}'],
    )
    def test_what_is_no_json_becomes_a_row(self, frame: str) -> None:
        assert redact(frame) == "x" * len(frame)

    def test_spelling_and_repeated_keys_stay(self) -> None:
        frame = '{ "content":"a" , "type" :"agent_response","is_final":false,"content":"\\u00e9b"}'
        assert redact(frame) == (
            '{ "content":"x" , "type" :"agent_response","is_final":false,"content":"xx"}'
        )

    def test_what_was_too_long_stays_refused(self) -> None:
        frame = frame_of({"type": "error", "message": "é" * 9_000_000})
        assert redact(frame) == "x" * len(frame)

    def test_thousands_of_digits_are_a_number(self) -> None:
        frame = '{"type":"ping","n":' + "7" * 5000 + "}"
        assert redact(frame) == frame.replace("7", "1").replace('"n"', '"x"')

    @given(frames())
    def test_a_message_of_the_protocol_means_the_same(self, frame: str | bytes) -> None:
        text = _journal.to_text(frame)
        assert verdict(redact(text)) == verdict(text)

    @given(garbage())
    def test_garbage_stays_what_it_was(self, frame: str | bytes) -> None:
        text = _journal.to_text(frame)
        before, after = verdict(text), verdict(redact(text))
        assert (before is None) == (after is None)

    @given(st.data())
    def test_no_word_is_left(self, data: st.DataObject) -> None:
        secret = data.draw(st.text("bhjkqwzäöü世界", min_size=12, max_size=30))
        place = data.draw(
            st.sampled_from(
                [
                    says(secret),
                    asks(secret),
                    asks("") | {secret: 1},
                    {"type": secret},
                    {"type": "error", "message": secret},
                    {"type": "ping", "role": secret, "event_id": secret},
                    {"type": "user_transcript", "user_transcript": [{"role": secret}]},
                    secret,
                ]
            )
        )
        ascii_only = data.draw(st.booleans())
        frame = place if isinstance(place, str) else json.dumps(place, ensure_ascii=ascii_only)
        redacted = redact(frame)
        assert all(secret[at : at + 3] not in redacted for at in range(len(secret) - 2))
        assert "\\u" not in redacted

    @given(json_values)
    def test_any_json_keeps_its_shape(self, value: Any) -> None:
        def shape(of: Any) -> Any:
            match of:
                case dict():
                    return [shape(each) for each in of.values()]
                case list():
                    return [shape(each) for each in of]
                case str():
                    return len(of)
                case _:
                    return type(of).__name__

        # As text, keys of one length become one key: pairs are compared in their place.
        pairs: Callable[[str], Any] = lambda text: json.loads(  # noqa: E731
            text, object_pairs_hook=lambda found: [[len(k), shape(v)] for k, v in found]
        )
        frame = json.dumps(value)
        if "Infinity" not in frame and "NaN" not in frame:
            assert shape(pairs(redact(frame))) == shape(pairs(frame))

    def test_a_recorder_writes_no_word_down(self, tmp_path: Path, recorded: Path) -> None:
        redacted = record(tmp_path, redact=True)
        text = redacted.read_text()
        assert "turn" not in text
        assert "word" not in text
        assert "conv_50" in text
        before, after = read_journal(recorded), read_journal(redacted)
        assert [verdict(line.frame) for line in before.lines] == [
            verdict(line.frame) for line in after.lines
        ]
        assert [(line.t, line.dir) for line in before.lines] == [
            (line.t, line.dir) for line in after.lines
        ]


def test_the_server_takes_a_recorder(tmp_path: Path) -> None:
    path = record(tmp_path)
    journal = read_journal(path)
    assert path.name.endswith(".jsonl")
    assert "conv_50" in path.name
    assert journal.conversation_id == "conv_50"
    assert journal.damage is None
    kinds = [type(wire.decode(line.frame)).__name__ for line in journal.lines]
    assert kinds.count("UserTranscript") == 50
    assert kinds[0] == "Init"
    assert kinds[-1] == "Close"
    assert [line.t for line in journal.lines] == sorted(line.t for line in journal.lines)


@pytest.mark.parametrize("transport", ["asyncio", "aiohttp", "asgi", "picows", "trio"])
def test_every_transport_takes_a_recorder(tmp_path: Path, transport: str) -> None:
    async def answer(transcript: list[Any], session: Any) -> None:
        await session.send_response(transcript[-1].content)

    async def main() -> None:
        module = importlib.import_module(f"speech_engine_transports.{transport}")
        server = SpeechEngineServer(
            host="127.0.0.1",
            port=0,
            api_key="k",
            transport=transport,
            on_transcript=answer,
            record=Recorder(tmp_path),
        )
        async with server:
            url = f"ws://127.0.0.1:{server.port}/"
            async with LocalEngine(url, api_key="k", connect=module.connect) as engine:
                await engine.ping()
                assert (await engine.say("hi")).text == "hi"

    anyio.run(main, backend="trio" if transport == "trio" else "asyncio")
    journal = read_journal(only_file(tmp_path) or "")
    assert replay(journal, exact=True).divergence is None
    assert [line.dir for line in journal.lines] == ["in", "in", "out", "in", "out", "out", "in"]


def test_handlers_see_the_request_of_a_recorded_call(tmp_path: Path) -> None:
    async def main() -> None:
        ours, theirs = pair()
        server = SpeechEngineServer(on_transcript=lambda _, __: None, record=Recorder(tmp_path))
        session = server.handle_connection(theirs)
        assert session.request is theirs.request
        ours.end()
        await session.run()

    anyio.run(main)


def test_a_journal_written_by_hand_is_read(tmp_path: Path) -> None:
    journal = read_journal(write(tmp_path / "j", ("in", INIT), ("out", "x"), name=None))
    assert journal.conversation_id is None
    assert [line.frame for line in journal.lines] == [frame_of(INIT), "x"]
