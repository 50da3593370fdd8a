"""How Sphinx builds the documentation."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

from sphinx.ext.napoleon import Config as GoogleConfig
from sphinx.ext.napoleon.docstring import GoogleDocstring

if TYPE_CHECKING:
    from docutils import nodes  # type: ignore[import-untyped,unused-ignore]
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "speech-engine-proto"
author = "The speech-engine-proto authors"
release = metadata.version(project)

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinxcontrib.mermaid"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_show_copyright = False

myst_fence_as_directive = ["mermaid"]  # as plain fences, because GitHub draws those as well
myst_heading_anchors = 3

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

# Names in signatures that lead nowhere on purpose: other libraries, and aliases that are described
# where they are used.
nitpick_ignore_regex = [
    (r"py:.*", r"(anyio|collections|contextlib|enum|hypothesis|msgspec|os|pathlib)\..*"),
    (r"py:.*", r"(aiohttp|httpx|picows|trio_websocket|websockets)\..*"),
    (
        r"py:class",
        r"ssl_module\.SSLContext|deque|AbstractAsyncContextManager|(Meter|Tracer)Provider",
    ),
    (r"py:class", r"Authorize|Connect|Fallback|Handler|Heard|Refusal|Response|Until"),
    (r"py:class", r"Receive|Scope|Send|TaskStatus|speech_engine_transports\._mounted\.Mounted"),
]


# `Limits` is a class of two packages, and a signature names it without its package.
suppress_warnings = ["ref.python"]


def setup(app: Sphinx) -> None:
    """Connect the two handlers below."""
    app.connect("autodoc-process-docstring", _read_google_style)
    app.connect("missing-reference", _find_by_last_name)


def _read_google_style(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Read ``Args:`` and ``Raises:``.

    Napoleon as an extension would take the words before a colon in a property's docstring for its
    type; read as a function's they are words.
    """
    kind: Any = what if what in ("class", "exception", "module") else "function"
    config: Any = GoogleConfig(napoleon_use_rtype=False)
    lines[:] = GoogleDocstring(lines, config, app, kind, name, thing, options).lines()


def _find_by_last_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | None:
    """Resolve ``Turn``, or ``speech_engine_proto._turns.Turn``, to where it is documented."""
    python = env.domains.python_domain
    last = node.get("reftarget", "").rpartition(".")[2]
    found = [name for name in python.objects if name.rpartition(".")[2] == last]
    if node.get("refdomain") != "py" or not found:
        return None
    found.sort(key=lambda name: (name.count("."), name))  # `Error` is a class, not a wire's field
    document = node.get("refdoc", env.docname)
    return python.resolve_xref(env, document, app.builder, "obj", found[0], node, content)
