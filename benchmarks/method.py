"""How the figures are taken, in words: the last part of RESULTS.md."""

from __future__ import annotations

__all__ = ["METHOD"]

METHOD = """\
- What is compared takes turns within each round, and every other round goes the other way, so that
  whatever else the machine does falls on all of it. The official SDK is measured in the same run.
- A piece and a turn: both sessions run over the same socket in memory, which hands over frames and
  counts what is sent. {effort.rounds} rounds of a reply of {effort.pieces} words, and of a call of
  {effort.turns} turns, each with its whole history and a reply of one text; CPU time of the
  process. "Core alone" is `AgentConnection.send_text` without a session, compared with a piece
  through the official session.
- The import: {effort.imports} rounds of fresh interpreters, CPU time of the import statement.
- All else: real sockets on the loopback device, a new server process for each sample,
  {effort.call_rounds} rounds. The calls come from another process, over picows on uvloop; all
  servers run on asyncio's own loop. CPU is the server's own, user and system.
- "Raw library" is a handler on the same library with the same settings (no compression, the same
  limits and pings) that reads the same messages and writes the same frames, made beforehand. In
  the rows against it, the official session runs on that listener too.
- "Official" in the rows of whole calls, first pieces, interruptions and idle calls is the SDK's
  own server as its `serve` runs it: its own settings of `websockets`, its compression among them.
  The caller offers compression as the `websockets` client does by default, to all servers alike,
  and compresses in turn where a server takes it; ours take none unless told to. Whether the
  service offers it is not known, so there are rows where the caller does
  not.
- Memory: bytes that Python holds per call, by `tracemalloc`, over {effort.calls} calls after a
  warm-up. In the table of idle calls: resident memory of the process, no compression offered.
- CPU per frame over the raw library: one call, transcripts of 10 messages and replies of 60 words,
  over the frames read and written. Whole calls: 20 at once, each of 15 turns whose history grows
  from 1 to 29 messages, with replies of 60 words. A reply comes all at once; "word by word" lets
  the loop turn before each word, which costs the stream itself the same on every server.
- First pieces and interruptions: 200 calls stream a word every 50 ms without end, each at its own
  time. By turns, every 2 ms, one of them is interrupted by a newer transcript, and one of 20 silent
  calls beside them asks something; {effort.probes} of each per sample, with as many messages of
  history as the row says. A first piece ends where the caller reads it, its own work included. An
  interruption begins where the caller sends (the transcript says when) and ends in the server where
  the stream is closed and the handler has ended; both read the system's monotonic clock. "Raw
  library" is a server written by hand on `websockets`, which does no more than this load asks for:
  what it takes, no session on that library can take less of.
- Pongs: 200 calls, each handler sending a word every 50 ms without end; the time from ping to pong
  is taken by the caller, its own work included. "Idle" is the same without transcripts.
- Idle calls: 10,000, all pinged at once; at the end each gets `close`, must be closed with 1000,
  and its handler must be told. One sample for each server.
"""
