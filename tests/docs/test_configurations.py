"""A configuration that is wrong is a failure, whether or not its program is on the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docs.configurations import check_haproxy, check_kubernetes, check_nginx
from tests.docs.pages import DOCS, blocks

if TYPE_CHECKING:
    from pathlib import Path

[MANIFEST] = (
    b.text for b in blocks(DOCS / "how-to" / "outgrow-one-process.md") if b.language == "yaml"
)


@pytest.mark.parametrize(
    "text", ["server { listen 8080 }\n", "server {\n", "server {\nlisten 8080\n}\n"]
)
def test_nginx(text: str, tmp_path: Path) -> None:
    check_nginx("server {\n  listen 8080;  # a comment\n}\n", tmp_path)
    with pytest.raises(AssertionError):
        check_nginx(text, tmp_path)


def test_haproxy(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        check_haproxy("bakend agents\n    balance leastconn\n", tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("apps/v1", "v1"),
        ("targetPort: ws", "targetPort: http"),
        ("      port: ws\n", "      port: web\n"),
        ("      app: agent\n  strategy", "      app: other\n  strategy"),
        ("  selector:\n    app: agent", "  selector:\n    app: other"),
    ],
)
def test_kubernetes(old: str, new: str) -> None:
    check_kubernetes(MANIFEST)
    assert old in MANIFEST
    with pytest.raises((AssertionError, ValueError)):
        check_kubernetes(MANIFEST.replace(old, new))
