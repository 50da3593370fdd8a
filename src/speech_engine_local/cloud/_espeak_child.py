"""The program that holds espeak-ng, in a process of its own: `espeak` starts it.

The library is C, reads whatever a language model wrote, and there are texts on which it crashes.
Here it takes only itself down. This file is run by its path and imports nothing but the standard
library, so that it starts in milliseconds.

It is given two arguments, the library and its data, and says hello with one line of JSON:
``sample_rate``, or ``error``. Then, for each request on its standard input (a length and JSON), it
answers with pieces, each an `ANSWER` with what it announces, and waits for a byte after each:
`GO_ON`, or anything else to stop. An `ANSWER` with `NO_MORE` words ends the answer.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
from typing import Any, BinaryIO, Final

LENGTH: Final = struct.Struct("<I")
ANSWER: Final = struct.Struct("<iI")  # how many words begin in the piece, its bytes
WORD: Final = struct.Struct("<ii")  # its first sample, the characters before it
NO_MORE: Final = -1
GO_ON: Final = b"+"
STOP: Final = b"-"

# From espeak-ng's interface, speak_lib.h.
_SYNCHRONOUS: Final = 2
_BUFFER: Final = 200  # milliseconds
_DO_NOT_EXIT: Final = 0x8000
_RATE: Final = 1
_BY_CHARACTER: Final = 1
_UTF8: Final = 1
_END_PAUSE: Final = 0x1000
_LAST_EVENT, _WORD_EVENT = 0, 1


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


class Child:
    """Speaks what it is asked for on `requests`, and answers on `answers`.

    Raises:
        OSError: the library does not load, or not start.
    """

    def __init__(self, path: str, data: str, requests: BinaryIO, answers: BinaryIO) -> None:
        self._requests = requests
        self._answers = answers
        self._c = ctypes.CDLL(path)
        self._c.espeak_Synth.argtypes = [
            *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int),
            *(ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p),
        ]
        self.sample_rate: int = self._c.espeak_Initialize(
            _SYNCHRONOUS, _BUFFER, data.encode(), _DO_NOT_EXIT
        )
        if self.sample_rate <= 0:
            raise OSError(f"espeak-ng does not start with its data in {data}")
        signature = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event)
        )
        self._callback = signature(self._take)  # the library keeps only its address
        self._c.espeak_SetSynthCallback(self._callback)
        self._voices: list[str] = []

    def run(self) -> None:
        """Answer requests until there are no more."""
        while len(head := self._requests.read(LENGTH.size)) == LENGTH.size:
            request = json.loads(self._requests.read(*LENGTH.unpack(head)))
            self._speak(**request)
            self._answers.write(ANSWER.pack(NO_MORE, 0))
            self._answers.flush()

    def _speak(self, text: str, voices: list[str], rate: int, pause: bool) -> None:
        """Speak in the first of the voices that there is."""
        if voices != self._voices:
            self._voices = voices
            any(self._c.espeak_SetVoiceByName(name.encode()) == 0 for name in voices)
        self._c.espeak_SetParameter(_RATE, rate, 0)
        data = text.encode("utf-8", "replace")
        flags = _UTF8 | _END_PAUSE if pause else _UTF8
        self._c.espeak_Synth(data, len(data) + 1, 0, _BY_CHARACTER, 0, flags, None, None)

    def _take(self, samples: int | None, count: int, events: Any) -> int:
        """Pass a piece on; called by the library, which stops if 1 is returned."""
        words: list[bytes] = []
        index = 0
        while (event := events[index]).type != _LAST_EVENT:
            if event.type == _WORD_EVENT:
                words.append(WORD.pack(event.sample, event.text_position - 1))
            index += 1
        pcm = ctypes.string_at(samples, 2 * count) if samples else b""
        self._answers.write(b"".join([ANSWER.pack(len(words), len(pcm)), *words, pcm]))
        self._answers.flush()
        return 0 if self._requests.read(1) == GO_ON else 1


def main(path: str, data: str) -> None:
    """Be the child process of `espeak`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the library prints is no answer
    try:
        child = Child(path, data, sys.stdin.buffer, answers)
    except OSError as error:
        answers.write(json.dumps({"error": str(error)}).encode() + b"\n")
        return
    answers.write(json.dumps({"sample_rate": child.sample_rate}).encode() + b"\n")
    answers.flush()
    child.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
