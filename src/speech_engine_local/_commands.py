"""The commands and their options. What a command needs is imported when it runs."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from ._journal_commands import record, replay
from ._load_command import load

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from .chat import Agent

_SECONDS = click.FloatRange(min=0, min_open=True)

_EPILOG = """\b
Examples:
  speech-engine demo
  speech-engine demo --web
  speech-engine demo --llm openai
  speech-engine demo --base-url http://127.0.0.1:11434/v1 --model llama3.2
  speech-engine chat ws://127.0.0.1:3001/ws
  echo "Hello" | speech-engine chat ws://127.0.0.1:3001/ws
  speech-engine cloud --db engines.db
  speech-engine check ws://127.0.0.1:3001/ws
  speech-engine load ws://127.0.0.1:3001/ws --calls 500
  speech-engine record --listen 127.0.0.1:4000 --to ws://127.0.0.1:3001/ws --dir journals
  speech-engine replay journals/*.jsonl

\b
Environment:
  ELEVENLABS_API_KEY  signs the tokens of `chat`, `check`, `load` and `replay`; the key of `cloud`
  OPENAI_API_KEY      the key of `demo --llm openai`; having one asks for nothing

Exit codes: 0; 1 where a rule was broken, a check failed, a replay diverged, or no conversation or
cloud came about; 2 for wrong usage.
"""


@click.group(
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="speech-engine-proto", prog_name="speech-engine")
def commands() -> None:
    """The service's side of Speech Engine, on your own machine.

    Your agent answers calls over a WebSocket; these commands make the call. Unofficial, not
    affiliated. Nothing here needs an account, and no call leaves your machine unless you name an
    address that does.
    """


@commands.command()
@click.option("--web", is_flag=True, help="Converse in a browser, with sound: serve a page for it.")
@click.option("--open", "open_browser", is_flag=True, help="With --web: open the page as well.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port of the agent, with --web of the page; 0 takes a free one.",
)
@click.option("--llm", type=click.Choice(["openai"]), help="Let a language model answer.")
@click.option("--base-url", metavar="URL", help="An OpenAI-compatible endpoint; implies --llm.")
@click.option("--model", metavar="NAME", help="The endpoint's name of the model.")
@click.option(
    "--words-per-second",
    type=_SECONDS,
    metavar="N",
    help="Pace of the built-in agent: 12, and 120 where a script is played.",
)
def demo(
    web: bool,
    open_browser: bool,
    port: int,
    llm: str | None,
    base_url: str | None,
    model: str | None,
    words_per_second: float | None,
) -> None:
    """Talk with an example agent, over a real WebSocket on this machine.

    Type, and the agent's words appear as they stream; press Enter while it speaks, and you
    interrupt it. Without a terminal at stdin and stdout a scripted conversation is played, with
    an interruption in it.

    With --web you converse in a browser, and see all that goes over the wire: the agent, the
    local cloud and its page are served on this machine until Ctrl-C.

    The built-in agent is offline and needs no key. A model answers only if you ask for it.
    """
    from . import chat

    if open_browser and not web:
        raise click.UsageError("--open: expected together with --web")
    patience = chat.Patience()
    if llm or base_url:
        if words_per_second is not None:
            raise click.UsageError("--words-per-second: expected with the built-in agent only")
        agent, about = _llm_agent(base_url, model)
        patience = chat.Patience(cascade_timeout=15)  # a cold local model needs its time
    else:
        if model is not None:
            raise click.UsageError("--model: expected together with --llm or --base-url")
        pace = words_per_second or (12 if web or chat.is_terminal() else 120)
        agent, about = _example_agent(pace)
    if web:
        _run(_web_demo(agent, about=about, port=port, open_browser=open_browser))
    else:
        _run(chat.demo(agent, port=port, about=about, patience=patience))


@commands.command("chat")
@click.argument("url")
@click.option(
    "--api-key",
    envvar="ELEVENLABS_API_KEY",
    metavar="KEY",
    help="Signs the token. Better given as ELEVENLABS_API_KEY: other users of a machine can see "
    "options. Without a key no token is sent.",
)
@click.option(
    "--cascade-timeout",
    type=_SECONDS,
    metavar="SECONDS",
    default=4.0,
    show_default=True,
    help="Seconds without a word before a question is sent again; the third time ends the call.",
)
@click.option(
    "--silence-timeout",
    type=_SECONDS,
    metavar="SECONDS",
    default=30.0,
    show_default=True,
    help="Seconds without a piece before a started reply counts as forgotten.",
)
@click.option(
    "--ping-interval",
    type=_SECONDS,
    metavar="SECONDS",
    default=20.0,
    show_default=True,
    help="Seconds between pings.",
)
@click.option(
    "--pong-timeout",
    type=_SECONDS,
    metavar="SECONDS",
    default=10.0,
    show_default=True,
    help="Seconds that a pong may take.",
)
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help="A header of the call, as an engine's request_headers; may be given several times.",
)
def chat_command(url: str, api_key: str | None, headers: tuple[str, ...], **seconds: float) -> None:
    """Talk with the server at URL, in whatever language it is written.

    URL is its WebSocket address, such as ws://127.0.0.1:3001/ws. Without a terminal at stdin and
    stdout, each line of stdin is a turn, and every reply is waited for.
    """
    from . import chat

    patience = chat.Patience(**seconds)
    pairs = [_header(text) for text in headers]
    _run(chat.chat(url, api_key=api_key or None, patience=patience, headers=pairs))


@commands.command("cloud")
@click.option(
    "--host",
    metavar="HOST",
    default="127.0.0.1",
    show_default=True,
    help="Interface; 0.0.0.0 lets other machines in.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8787,
    show_default=True,
    help="Port; 0 takes a free one.",
)
@click.option(
    "--api-key",
    envvar="ELEVENLABS_API_KEY",
    metavar="KEY",
    help="What clients must send, and what signs the calls to your agent. Better given as "
    "ELEVENLABS_API_KEY: other users of a machine can see options. Without one a random key is "
    "made and printed; a key of yours never is.",
)
@click.option(
    "--db",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Keep the engines in this SQLite file, so that they survive a restart; it is made where "
    "there is none. Without it they are kept in memory.",
)
@click.option(
    "--public-url",
    metavar="URL",
    help="How clients reach the cloud, such as https://cloud.example behind a proxy; signed URLs "
    "begin with it. Without it they begin with what the request says.",
)
@click.option("--no-audio", is_flag=True, help="Send replies as text only.")
def cloud_command(
    host: str,
    port: int,
    api_key: str | None,
    db: str | None,
    public_url: str | None,
    no_audio: bool,
) -> None:
    """Be the service, for official SDKs and browser clients on this machine.

    The management API (/v1/speech-engine), signed URLs and the conversation's WebSocket: make an
    engine with its ws_url at your agent, and converse with it. A page to try it is at /. Ctrl-C
    ends it.
    """
    try:
        from . import _cloud_command
    except ImportError as error:
        raise click.ClickException(str(error)) from error
    _run(
        _cloud_command.run(
            host=host,
            port=port,
            api_key=api_key,
            db=db,
            public_url=public_url,
            audio=not no_audio,
        )
    )


@commands.command("check")
@click.argument("url", required=False)
@click.option(
    "--api-key",
    envvar="ELEVENLABS_API_KEY",
    metavar="KEY",
    help="Signs the tokens. Better given as ELEVENLABS_API_KEY: other users of a machine can see "
    "options. Without a key no token is sent, and checks of tokens are skipped.",
)
@click.option("--only", multiple=True, metavar="NAME", help="A check or a group; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else.")
@click.option("--list", "show_list", is_flag=True, help="Show the checks, and call nobody.")
@click.option(
    "--serve",
    metavar="TARGET",
    help="Serve a ready target instead: asyncio, aiohttp, trio, asgi, picows, official-python or "
    "official-typescript.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="With --serve: its port; 0 takes a free one.",
)
def check_command(
    url: str | None,
    api_key: str | None,
    only: tuple[str, ...],
    as_json: bool,
    show_list: bool,
    serve: str | None,
    port: int,
) -> None:
    """Is the Speech Engine server at URL right?

    Calls it as the service does, about a hundred times in less than 30 seconds, with right and
    wrong messages, and says of each check what is documented, what was seen, and a verdict: pass,
    fail, or "differs" where the documentation is silent and implementations differ. Checks that
    need a handler which obeys are skipped unless the server is a ready target. The last checks
    send what is known to end some servers: do not point it at one with real callers.
    """
    from . import _check_command

    if (url is not None) + show_list + (serve is not None) != 1:
        raise click.UsageError("expected one of URL, --list and --serve")
    try:
        if show_list:
            click.echo(_check_command.show(only))
        elif serve is not None:
            sys.exit(_check_command.serve(serve, port=port, api_key=api_key or None))
    except (ImportError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if url is not None:
        _run(_check_command.run(url, api_key=api_key or None, only=only, json=as_json))


commands.add_command(load)
commands.add_command(record)
commands.add_command(replay)


def _web_demo(agent: Agent, **options: Any) -> Coroutine[Any, Any, int]:
    try:
        from ._web_demo import web_demo
    except ImportError as error:
        raise click.ClickException(str(error)) from error
    return web_demo(agent, **options)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (colon and name.strip() and text.isprintable() and text.isascii()):
        raise click.UsageError("--header: expected 'NAME: VALUE'")
    return name.strip(), value.strip()


def _example_agent(words_per_second: float) -> tuple[Agent, str]:
    from .agent import ExampleAgent

    agent = ExampleAgent(words_per_second=words_per_second)
    return agent, "Offline example agent, no key and no network"


def _llm_agent(base_url: str | None, model: str | None) -> tuple[Agent, str]:
    from .agent import DEFAULT_MODEL, OpenAIAgent

    name = model or DEFAULT_MODEL
    try:
        agent = OpenAIAgent(model=name, base_url=base_url)
    except ImportError as error:
        raise click.ClickException(str(error)) from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return agent, f"{name} at {base_url or 'OpenAI'}, which is not offline"


def _run(conversation: Coroutine[Any, Any, int]) -> None:
    """Run to the end and exit with the code; what a user can get wrong is one line on stderr."""
    try:
        sys.exit(asyncio.run(conversation))
    except KeyboardInterrupt:
        sys.exit(1)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
