"""``eastgate inject`` on what users write: ``tests/cases/inject``.

``golden/NAME.yaml`` becomes ``golden/NAME.injected.yaml``, to the letter (``EASTGATE_ACCEPT=1`` writes them anew).

The other files have ``cases``. ``input`` is the text, ``arguments`` follow ``inject -f input.yaml``. ``said`` are the lines on
stderr, ``refused`` that it must exit with 1 and print nothing. ``pods`` is what became of each pod or template, as far as
it is said there: ``initContainers``, ``containers`` and ``volumes`` by name, ``probes`` the table by port and path, ``annotations``
and ``container`` (fields of the app's first container) and ``sidecar`` as parts. ``kept`` says that the objects are as before.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from eastgate import __version__
from eastgate.cli.inject import inject
from eastgate.cli.main import main
from eastgate.dialects.documents import read_documents
from tests.unit.webhook.injections.scenes import apply_independently, container, probes_of
from webhook.injections.workloads import TEMPLATES

CASES = Path(__file__).parent / "cases" / "inject"
GOLDEN = sorted(path for path in (CASES / "golden").glob("*.yaml") if not path.name.endswith(".injected.yaml"))

TOKEN = "0000000000-a-token-for-tests"

app = typer.Typer()
app.command()(inject)


def load_cases() -> list[Any]:
    return [
        pytest.param(case, id=f"{path.stem}: {case['name']}")
        for path in sorted(CASES.glob("*.yaml"))
        for case in yaml.safe_load(path.read_text())["cases"]
    ]


def run(*arguments: str, text: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), input=text)
    return result.exit_code, result.stdout, result.stderr


def read(text: str) -> list[Any]:
    """As kubectl reads it."""
    problems: list[Any] = []
    found = [value.plain() for value in read_documents("output", text, problems, open_lists=False)]
    assert problems == []
    return found


def open_lists(documents: list[Any]) -> list[Any]:
    return [
        inner
        for document in documents
        for inner in (open_lists(document["items"]) if document["kind"] == "List" else [document])
    ]


def list_pods(documents: list[Any]) -> list[Any]:
    """The pods and templates in objects."""
    found = []
    for document in open_lists(documents):
        path = TEMPLATES.get((document["apiVersion"].rpartition("/")[0], document["kind"]))
        if path is not None:
            pod = document
            for part in path:
                pod = pod[part]
            found.append(pod)
    return found


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    options = ("--image", "registry.example.com/eastgate-sidecar:1.0.0", "--hook-token", TOKEN)
    code, output, _ = run("-f", str(path), *options)
    assert code == 0
    output = output.replace(f'"version":"{__version__}"', '"version":"VERSION"')
    golden = path.with_suffix(".injected.yaml")
    if os.environ.get("EASTGATE_ACCEPT"):
        golden.write_text(output)
    assert output == golden.read_text()
    code, again, _ = run("-f", str(golden), "--image", "registry.example.com/eastgate-sidecar:1.0.0")
    assert (code, again) == (0, output)


@pytest.mark.parametrize("case", load_cases())
def test_case(case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("input.yaml").write_text(case["input"])
    arguments = case.get("arguments", [])
    code, output, said = run("-f", "input.yaml", *arguments)
    for line, expected in zip(said.splitlines(), case.get("said", []), strict=True):
        assert all(part in line for part in expected.split(" … ")), f"{line}\nis not\n{expected}"
        assert line.startswith(expected.partition(" … ")[0])
    if case.get("refused"):
        assert (code, output) == (1, "")
        return
    assert code == 0, said
    documents, original = read(output), read(case["input"])
    assert [one["kind"] for one in documents] == [one["kind"] for one in original]
    if case.get("kept"):
        assert documents == original
    for pod, expected in zip(list_pods(documents), case.get("pods", []), strict=bool(case.get("pods"))):
        compare(pod, expected)
    check_patches(original, documents, arguments)


def compare(pod: dict[str, Any], expected: dict[str, Any]) -> None:
    spec = pod["spec"]
    for field in ("initContainers", "containers", "volumes"):
        if field in expected:
            assert [one["name"] for one in spec.get(field, [])] == expected[field]
    if "probes" in expected:
        table = {key: f"{one['kind']}:{one['port']}{one.get('path', '')}" for key, one in probes_of(pod).items()}
        assert table == expected["probes"]
    app_container = next((one for one in spec["containers"] if not one["name"].startswith("eastgate-")), {})
    for name, found in (
        ("annotations", pod.get("metadata", {}).get("annotations", {})),
        ("container", app_container),
        ("sidecar", container(pod, "eastgate-sidecar") if "sidecar" in expected else {}),
    ):
        for key, value in expected.get(name, {}).items():
            assert found.get(key) == value, f"{name}.{key}"
            assert type(found.get(key)) is type(value)


def check_patches(original: list[Any], documents: list[Any], arguments: list[str]) -> None:
    """``-o patch`` leads to the same objects, and ``-o json`` has them."""
    code, output, _ = run("-f", "input.yaml", *arguments, "-o", "patch")
    assert code == 0
    patches = (
        [json.loads(output)] if len(original) == 1 else [json.loads(line)["patch"] for line in output.splitlines()]
    )
    plain = json.loads(json.dumps(original))
    assert [apply_independently(one, patch) for one, patch in zip(plain, patches, strict=True)] == documents
    code, output, _ = run("-f", "input.yaml", *arguments, "-o", "json")
    written = json.loads(output)
    assert (written["items"] if len(original) > 1 else [written]) == documents


def test_several_files_a_folder_and_standard_input(tmp_path: Path) -> None:
    pod = (CASES / "golden" / "job.yaml").read_text()
    (tmp_path / "one.yaml").write_text(pod)
    (tmp_path / "two.json").write_text(json.dumps(yaml.safe_load(pod)))
    (tmp_path / "notes.txt").write_text("{{")
    code, output, _ = run("-f", str(tmp_path))
    assert code == 0
    assert output.count("name: eastgate-sidecar\n") == 2
    code, output, _ = run("-f", str(tmp_path / "one.yaml"), "-f", "-", text=pod)
    assert code == 0
    assert len(read(output)) == 2
    code, _, said = run("-f", "-", text="a: [")
    assert code == 1
    assert said.startswith("<stdin>:1: error: ")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["-f", "gone.yaml"], "gone.yaml"),
        (["-f", "-", "--image", "Not An Image"], "Not An Image"),
        (["-f", "-", "--namespace-label", "disabled"], "disabled"),
        (["-f", "-", "-o", "toml"], "toml"),
        (["-f", "-", "-n", "A shop"], "A shop"),
        (["-f", "-", "-n", ""], "accepted"),
        (["-f", "-", "--hook-token", "short"], "16 to 128"),
        ([], "filename"),
    ],
)
def test_wrong_usage(arguments: list[str], part: str) -> None:
    code, output, said = run(*arguments, text="")
    assert code == 2
    assert output == ""
    assert part in said


HOOKED = """
apiVersion: v1
kind: Pod
metadata: {name: a, annotations: {eastgate.dev/policies: "*"}}
spec: {containers: [{name: app, image: x, lifecycle: {preStop: {httpGet: {port: 80}}}}]}
"""


def test_the_token_of_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new one each time, kept where there is one, and the same each time for who says which."""
    first, second = (run("-f", "-", text=HOOKED)[1] for _ in range(2))
    assert first != second
    assert run("-f", "-", text=first) == (0, first, "")
    monkeypatch.setenv("EASTGATE_HOOK_TOKEN", TOKEN)
    third, fourth = (run("-f", "-", text=HOOKED)[1] for _ in range(2))
    assert third == fourth
    (pod,) = read(third)
    assert probes_of(pod)["app/prestop"]["token"] == TOKEN
    assert run("-f", "-", text=first)[1] == first
    monkeypatch.setenv("EASTGATE_HOOK_TOKEN", "a secret, if a bad one")
    code, output, said = run("-f", "-", text=HOOKED)
    assert (code, output) == (2, "")
    assert "bad one" not in said


def test_through_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What people put before ``kubectl apply -f -``."""
    monkeypatch.setattr("sys.stdin", io.StringIO((CASES / "golden" / "job.yaml").read_text()))
    assert main(["inject", "-f", "-"]) == 0
    assert "eastgate-init" in capsys.readouterr().out
