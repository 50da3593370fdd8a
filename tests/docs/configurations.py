"""Configurations of other programs that the pages show: read by those programs, where they are.

Where they are not, only the form is looked at.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped,unused-ignore]

if TYPE_CHECKING:
    from pathlib import Path

SECTIONS = ("global", "defaults", "frontend", "backend", "listen")
"""Of a configuration of HAProxy, as far as pages need them."""


def check_nginx(text: str, directory: Path) -> None:
    """Read the content of an ``http`` block."""
    whole = (
        f"pid nginx.pid;\nerror_log stderr;\nevents {{\n}}\nhttp {{\naccess_log off;\n{text}}}\n"
    )
    path = directory / "nginx.conf"
    path.write_text(whole, encoding="utf-8")
    if program := _find("nginx"):
        _run(program, "-t", "-q", "-p", str(directory), "-c", str(path), "-e", "stderr")
    for line in whole.splitlines():
        code = line.partition("#")[0].strip()
        assert not code or code == "}" or code[-1] in ";{", (
            f"nginx: expected an end of the directive: {line}"
        )
    assert whole.count("{") == whole.count("}"), "nginx: braces that do not match"


def check_haproxy(text: str, directory: Path) -> None:
    """Read a configuration file."""
    path = directory / "haproxy.cfg"
    path.write_text(text, encoding="utf-8")
    if program := _find("haproxy"):
        _run(program, "-c", "-q", "-f", str(path))
    for line in text.splitlines():
        is_section = line.split()[:1] and line.split()[0] in SECTIONS
        assert not line or line.startswith("    ") or is_section, f"haproxy: no section: {line}"


def check_kubernetes(text: str) -> None:
    """Read objects of Kubernetes: workloads, and services that find them."""
    objects: list[dict[str, Any]] = list(yaml.safe_load_all(text))
    kinds = {"Deployment": "apps/v1", "Service": "v1"}
    for each in objects:
        assert each["apiVersion"] == kinds[each["kind"]], each["kind"]
        assert re.fullmatch(r"[a-z][a-z0-9-]*", each["metadata"]["name"])
    deployments = [each["spec"] for each in objects if each["kind"] == "Deployment"]
    services = [each["spec"] for each in objects if each["kind"] == "Service"]
    for deployment in deployments:
        _check_deployment(deployment)
    for service in services:
        pods = [each["template"] for each in deployments]
        [pod] = (pod for pod in pods if pod["metadata"]["labels"] == service["selector"])
        names = {port["name"] for port in _ports(pod)}
        assert {port["targetPort"] for port in service["ports"]} <= names


def _check_deployment(deployment: dict[str, Any]) -> None:
    pod = deployment["template"]
    assert deployment["selector"]["matchLabels"] == pod["metadata"]["labels"]
    names = {port["name"] for port in _ports(pod)}
    for container in pod["spec"]["containers"]:
        for name, probe in container.items():
            if name.endswith("Probe"):
                [kind] = probe.keys() & {"tcpSocket", "httpGet"}
                assert probe[kind]["port"] in names, f"{name}: no such port"


def _ports(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [port for container in pod["spec"]["containers"] for port in container["ports"]]


def _find(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
