"""The command ``load``. What it needs is imported when it runs."""

from __future__ import annotations

import asyncio
import re
import sys

import click

__all__ = ["load"]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}


def _seconds(_: click.Context, __: click.Parameter, value: str) -> float:
    """Read a time such as 10, 10s, 500ms or 2m."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|)", value)
    if found is None:
        raise click.BadParameter(f"expected a time such as 10, 10s, 500ms or 2m, got {value!r}")
    return float(found[1]) * _UNITS[found[2]]


_EPILOG = """\b
Examples:
  speech-engine load ws://127.0.0.1:3001/ws
  speech-engine load ws://127.0.0.1:3001/ws --calls 500 --ramp 10s --interrupt 0.3
  speech-engine load ws://127.0.0.1:3001/ws --calls 2000 --at-once 200 --turns 10 --json

Exit codes: 0 without an error; 1 with errors; 2 for wrong usage; 130 after Ctrl-C.
"""


@click.command(epilog=_EPILOG)
@click.argument("url")
@click.option(
    "--api-key",
    envvar="ELEVENLABS_API_KEY",
    metavar="KEY",
    help="Signs the tokens. Better given as ELEVENLABS_API_KEY: other users of a machine can see "
    "options. Without a key no token is sent.",
)
@click.option("--calls", default=50, show_default=True, help="How many calls in all.")
@click.option("--at-once", type=int, metavar="N", help="At most so many open at a time.  [all]")
@click.option(
    "--ramp",
    callback=_seconds,
    metavar="TIME",
    default="5s",
    show_default=True,
    help="Begin them over so long.",
)
@click.option(
    "--turns", default=5, show_default=True, help="How often the caller of each call speaks."
)
@click.option(
    "--think",
    callback=_seconds,
    metavar="TIME",
    default="1s",
    show_default=True,
    help="Between a reply and the caller's next words; from half of it to one and a half.",
)
@click.option(
    "--interrupt",
    default=0.2,
    show_default=True,
    metavar="SHARE",
    help="The share of turns, 0 to 1, that the caller interrupts.",
)
@click.option(
    "--interrupt-pieces",
    default=5,
    show_default=True,
    metavar="N",
    help="Interrupts come after 1 to so many pieces of a reply.",
)
@click.option(
    "--history",
    default=0,
    show_default=True,
    metavar="N",
    help="Messages in the history before the first turn. It grows with each turn.",
)
@click.option(
    "--ping",
    callback=_seconds,
    metavar="TIME",
    default="5s",
    show_default=True,
    help="Between pings; 0 sends none.",
)
@click.option(
    "--timeout",
    callback=_seconds,
    default="30s",
    show_default=True,
    help="How long a turn may take.",
)
@click.option(
    "--max-time",
    callback=_seconds,
    metavar="TIME",
    default="10m",
    show_default=True,
    help="After it nothing new is begun; turns in flight end.",
)
@click.option("--say", multiple=True, metavar="TEXT", help="What callers say; repeatable.")
@click.option("--seed", default=0, show_default=True, help="Another seed makes other calls.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else.")
def load(
    url: str,
    api_key: str | None,
    calls: int,
    at_once: int | None,
    ramp: float,
    turns: int,
    think: float,
    interrupt: float,
    interrupt_pieces: int,
    history: int,
    ping: float,
    timeout: float,
    max_time: float,
    say: tuple[str, ...],
    seed: int,
    as_json: bool,
) -> None:
    """How does the Speech Engine server at URL do under load?

    Makes many calls as the service does: turns with a growing history, time to think,
    interruptions, pings. Says how many calls, turns and errors there were, and how long it took
    to the first word, to the terminator, from an interruption to silence, and from ping to pong.
    Also says whether this program was itself too slow to tell. An agent behind a paid model is
    paid for every turn.
    """
    try:
        from .load import LoadPlan, show
    except ImportError as error:
        raise click.ClickException(str(error)) from error
    try:
        plan = LoadPlan(
            calls=calls,
            at_once=at_once,
            ramp=ramp,
            turns=turns,
            think=think,
            interrupt=interrupt,
            interrupt_pieces=interrupt_pieces,
            history=history,
            ping=ping or None,
            turn_timeout=timeout,
            max_seconds=max_time,
            seed=seed,
            say=say,
        )
        show.check(url)
    except (ConnectionError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    try:
        sys.exit(asyncio.run(show.run(url, plan, api_key=api_key or None, json=as_json)))
    except KeyboardInterrupt:  # a second Ctrl-C, while the calls still hang up
        sys.exit(130)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
