"""Every command and every line of Python in the README does what it says."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from tests.helpers.servers import free_port

pytest.importorskip("torch")
ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^\$ (.+)$", README, re.MULTILINE)
PYTHON = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
PORTS = {port: str(free_port()) for port in ("8085", "8086")}  # another suite may run beside this


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples, where the commands of the README can leave their files."""
    path = tmp_path_factory.mktemp("readme")
    shutil.copytree(
        ROOT / "examples", path / "examples", ignore=shutil.ignore_patterns("__pycache__")
    )
    return path


def environment(folder: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "HEPDATA_CACHE": str(folder / "cache")}


def with_own_ports(command: str) -> str:
    for port, free in PORTS.items():
        command = re.sub(rf"\b{port}\b", free, command)
    return command


def run(command: str, folder: Path) -> str:
    command = with_own_ports(command)
    command = command.replace("hepdata-adapters ", f"{sys.executable} -m hepdata_adapters ", 1)
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment(folder), text=True,
        capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def serving(command: str, folder: Path) -> Iterator[None]:
    """The ``serve`` command, from when it says that it is ready to Ctrl-C."""
    words = [sys.executable, "-m", "hepdata_adapters", *with_own_ports(command).split()[1:]]
    with subprocess.Popen(
        words, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            said = any("ready" in line for line in iter(server.stdout.readline, ""))
            assert said, "the server ended before it was ready"
            yield
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)


def test_the_readme_has_the_commands_of_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {command.split()[1] for command in COMMANDS if command.startswith("make ")}
    assert named == {"demo", "test"} <= targets


def groups(commands: list[str]) -> Iterator[tuple[str | None, list[str]]]:
    """Each ``serve`` command with those that need its server: all up to the next ``export``."""
    server, group = None, []
    for command in commands:
        if command.startswith(("hepdata-adapters serve", "hepdata-adapters export")):
            yield server, group
            server, group = None, []
        if command.startswith("hepdata-adapters serve"):
            server = command
        else:
            group.append(command)
    yield server, group


def test_commands_of_the_readme(folder: Path):
    pytest.importorskip("ts", reason="TorchServe is not installed")
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    commands = [command for command in COMMANDS if not command.startswith("make ")]
    names = {command.split()[1] for command in commands if command.startswith("hepdata-")}
    assert names == {
        "inspect", "validate", "specs", "report", "fit", "evaluate", "predict", "export",
        "promote", "rollback", "serve",
    }  # fmt: skip
    for server, group in groups(commands):
        with serving(server, folder) if server else nullcontext():
            for command in group:
                assert server is None or any(port in command for port in PORTS)
                out = run(command, folder)
                if "instances" in command:
                    assert out.strip() == '{"predictions": []}'
                elif command.endswith("/v1/models/tth"):
                    assert '"AVAILABLE"' in out


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_of_the_readme(folder: Path, code: str, tmp_path: Path):
    script = tmp_path / "readme.py"
    script.write_text(code)
    run(f"{sys.executable} {script}", folder)


def test_the_config_of_the_readme_is_valid(folder: Path):
    (config,) = re.findall(r"```yaml\n(.+?)```", README, re.DOTALL)
    path = folder / "examples" / "tth" / "readme.yaml"
    path.write_text(config)
    assert "valid" in run(f"hepdata-adapters validate {path}", folder)
