"""The commands ``record`` and ``replay``. What they need is imported when they run."""

from __future__ import annotations

import asyncio
import sys

import click

__all__ = ["record", "replay"]

_POSITIVE = click.FloatRange(min=0, min_open=True)


def _address(_: click.Context, __: click.Parameter, value: str) -> tuple[str, int]:
    """Take ``HOST:PORT`` apart; a host with colons in it stands in brackets."""
    host, colon, port = value.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise click.BadParameter("expected HOST:PORT, such as 127.0.0.1:4000")
    return host.removeprefix("[").removesuffix("]"), int(port)


@click.command()
@click.option(
    "--listen",
    callback=_address,
    default="127.0.0.1:4000",
    show_default=True,
    metavar="HOST:PORT",
    help="Where the service shall dial; port 0 takes a free one.",
)
@click.option(
    "--to",
    metavar="URL",
    required=True,
    help="The agent's server, ws://HOST:PORT/PATH or wss://... What is dialled keeps its own path "
    "and query; PATH is for those who dial none.",
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False),
    required=True,
    metavar="DIR",
    help="Where the journals go, a file per call that only you can read; made where there is none.",
)
@click.option("--redact", is_flag=True, help="Replace the words before they are written.")
@click.option("--fsync", is_flag=True, help="Have each line on the disk before the call goes on.")
def record(listen: tuple[str, int], to: str, directory: str, redact: bool, fsync: bool) -> None:
    """Stand between the service and an agent, and write down each call.

    Calls are passed on as they come: headers with the token, path and query, refusals, close codes.
    Each call becomes a journal, JSON Lines with times, to be replayed. Ctrl-C ends it.
    """
    try:
        from . import _record
    except ImportError as error:
        raise click.ClickException(str(error)) from error
    host, port = listen
    try:
        code = asyncio.run(
            _record.run(
                host=host, port=port, to=to, directory=directory, redact=redact, fsync=fsync
            )
        )
    except KeyboardInterrupt:
        code = 1
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(code)


@click.command()
@click.argument("file", type=click.Path(), metavar="FILE")
@click.argument("url", required=False)
@click.option(
    "--exact",
    is_flag=True,
    help="With URL: compare each frame byte for byte, not the words of each turn. Without: frames "
    "that crossed with an interruption diverge.",
)
@click.option(
    "--messages",
    is_flag=True,
    help="Without URL: compare messages, not bytes; for an agent that spells its JSON otherwise.",
)
@click.option(
    "--speed",
    type=_POSITIVE,
    metavar="N",
    help="With URL: keep the recorded times (1), halve them (2), ...; without it what is said next "
    "follows as soon as what came before it is there.",
)
@click.option(
    "--timeout",
    type=_POSITIVE,
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="With URL: how long to wait for each frame that the journal has.",
)
@click.option(
    "--api-key",
    envvar="ELEVENLABS_API_KEY",
    metavar="KEY",
    help="With URL: signs the token. Better given as ELEVENLABS_API_KEY.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def replay(
    file: str,
    url: str | None,
    exact: bool,
    messages: bool,
    speed: float | None,
    timeout: float,
    api_key: str | None,
    as_json: bool,
) -> None:
    """Replay the journal FILE, and show the first divergence.

    Without URL the pure core replays it: what came in is fed to it, what went out must come out
    byte for byte. With URL the agent that listens there is called, and must say the same.

    Exit codes: 0 where it agrees to the end; 1 where it diverges, where the journal is damaged
    before its last line, or where no replay came about; 2 for wrong usage. A last line that was
    cut short, as by a crash, is told and is no failure.
    """
    from . import _replay_command

    if url is None and speed is not None:
        raise click.UsageError("--speed: expected together with URL")
    if url is not None and messages:
        raise click.UsageError("--messages: expected without URL")
    options = _replay_command.Options(
        url=url,
        exact=exact,
        messages=messages,
        speed=speed,
        timeout=timeout,
        api_key=api_key or None,
        as_json=as_json,
    )
    try:
        code = _replay_command.run(file, options)
    except KeyboardInterrupt:
        code = 1
    except OSError as error:
        raise click.ClickException(_told(error, file)) from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    sys.exit(code)


def _told(error: OSError, file: str) -> str:
    """One line: the system's own words where it has some, ours otherwise."""
    return f"{file}: {error.strerror}" if error.strerror else str(error)
