"""docs/walkthrough.md, command by command: what it prints is what the page says. ``…`` stands for anything.

The last of the tests: its `kubectl apply -k manifests/install` takes the platform's authority away, which the page does
without.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from e2e.cluster.conftest import Installation, Tell
from e2e.cluster.node import ROOT

PAGE = ROOT / "docs" / "walkthrough.md"
MARK = "==== eastgate walk-through ===="
QUESTIONS = (" exec ", " logs ", " get ", " run ")
"""Commands that may be given again: a Service and a log's line take their moments, and a namespace's account too."""
PATIENCE_SECONDS = 30.0


def read_commands(text: str) -> Iterator[tuple[str, str]]:
    """Each command of the ``console`` blocks, with what stands below it."""
    for block in re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def fits(output: str, expected: str) -> bool:
    """A line that is ``…`` stands for any number of lines, elsewhere it stands for any text in its line."""
    pattern = ""
    for line in expected.strip().splitlines():
        pattern += r"(?:[^\n]*\n)*?" if line == "…" else re.escape(line).replace("…", "[^\n]*") + r"[ ]*\n"
    return re.fullmatch(pattern, output.strip() + "\n" if output.strip() else "") is not None


@pytest.mark.timeout(600, func_only=True)
def test_the_page_as_it_is_written(installation: Installation, tell: Tell) -> None:
    cluster = installation.cluster
    cluster.await_true(
        lambda: "/httpbin\n" not in cluster.kubectl("get", "namespaces", "-o", "name"), "no httpbin", 180
    )
    path = [str(ROOT / ".venv" / "bin"), os.environ["PATH"]]
    if installation.node is not None:
        path.insert(0, str(installation.node.folder / "bin"))
    environment = {**os.environ, "PATH": ":".join(path)}
    commands = list(read_commands(PAGE.read_text()))
    assert len(commands) > 20
    shell = subprocess.Popen(
        ["bash"], cwd=ROOT, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert shell.stdin is not None
    assert shell.stdout is not None
    stdin, stdout = shell.stdin, shell.stdout

    def give(command: str) -> str:
        stdin.write(f"{command}\necho; echo '{MARK}'\n")
        stdin.flush()
        lines: list[str] = []
        while (line := stdout.readline()) and line.strip() != MARK:
            lines.append(line.replace("\r", ""))
        return "".join(lines).rstrip("\n") + "\n"

    wrong = []
    try:
        for command, expected in commands:
            deadline = time.monotonic() + PATIENCE_SECONDS
            output = said = give(command)
            while not fits(said, expected) and any(word in command for word in QUESTIONS):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.5)
                said = give(command)
            if not fits(said, expected):
                wrong.append(f"$ {command}\nexpected:\n{expected}\nsaid first:\n{output}\nand last:\n{said}")
                tell(wrong[-1])
    finally:
        shell.terminate()
        shell.stdin.close()
        shell.stdout.close()
        shell.wait(30)
        cluster.kubectl("delete", "namespace", "visitors", "httpbin", "--wait=false", check=False)
    tell(f"the walk-through: {len(commands)} commands, {len(wrong)} said something else")
    assert not wrong
