"""Plays the scenes: real upstreams, real key servers, one real ``eastgate serve`` a scene, all on loopback.

Knows: what has to run for a scene and in which order it comes and goes, and how an outcome is compared with what was
expected. Must not know: what the seeds say (``scenarios``), or how a result is shown.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from eastgate.demonstrations import scenarios
from eastgate.demonstrations.calls import Got, send
from eastgate.demonstrations.identity import Authority, KeyServer
from eastgate.demonstrations.scenes import Expected, Result, Scene, Step
from eastgate.demonstrations.serving import ServeError, Serving
from eastgate.demonstrations.upstreams import GRPCEcho, HTTPEcho, Record, Seen
from eastgate.render.text import conceal, conceal_query

PUBLIC_NAMES = ("raw.githubusercontent.com",)
PRIVATE_NAMES = ("foo.bar.com",)


class Stage:
    """Everything that runs. Entering starts it all; leaving stops it, in the reverse order. ``failures`` are the last
    words of sidecars that did not start.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.scenes: tuple[Scene, ...] = ()
        self.failures: list[str] = []
        self._servings: dict[int, Serving] = {}
        self._keys: dict[str, KeyServer] = {}
        self._http = HTTPEcho()
        self._grpc: GRPCEcho | None = GRPCEcho() if importlib.util.find_spec("grpc") is not None else None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="eastgate-demo-")))
            stack.enter_context(self._http)
            if self._grpc is not None:
                stack.enter_context(self._grpc)
            self._start(stack, folder)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def play(self) -> Iterator[Result]:
        """Every step of every scene, in order."""
        for number, scene in enumerate(self.scenes):
            serving = self._servings.get(number)
            if serving is None:
                yield from (
                    Result(scene, step, "", "", "", ("skipped: grpcio is not installed",)) for step in scene.steps
                )
                continue
            try:
                serving.wait()
            except ServeError as error:
                self.failures.append(f"seed {scene.seed}, {scene.title}: serve did not start:\n{error}")
                yield from (Result(scene, step, "", "", "", ("serve did not start",)) for step in scene.steps)
                continue
            for step in scene.steps:
                yield self._take(scene, step, serving)

    def addresses(self) -> list[tuple[Scene, tuple[str, int]]]:
        """Where each scene's sidecar listens."""
        return [(self.scenes[number], serving.address) for number, serving in self._servings.items()]

    def _start(self, stack: ExitStack, folder: Path) -> None:
        public, private = Authority("Eastgate demo public authority"), Authority("Eastgate demo self-signed authority")
        material = scenarios.Material.generate()
        key_sets = material.key_sets()
        for name, authority, names, failures in (
            ("public", public, PUBLIC_NAMES, 0),
            ("private", private, PRIVATE_NAMES, 2),
            ("distrusted", private, PRIVATE_NAMES, 0),
        ):
            self._keys[name] = stack.enter_context(KeyServer(authority, names, key_sets, folder, failures))
        trusted = folder / "public-ca.pem"
        trusted.write_text(public.pem, encoding="utf-8")
        self.scenes = (
            scenarios.claim_authorization(material),
            scenarios.jwt_authentication(material),
            scenarios.grpc_authentication(material),
            scenarios.self_signed_keys(material, private.pem),
            scenarios.wrong_authority(material, public.pem),
            scenarios.claims(material),
            scenarios.east_west(material),
        )
        for number, scene in enumerate(self.scenes):
            arguments = self._arguments(scene, folder / str(number), trusted)
            if arguments is not None:
                self._servings[number] = stack.enter_context(Serving(arguments))

    def _arguments(self, scene: Scene, folder: Path, trusted: Path) -> list[str] | None:
        application = self._grpc if scene.grpc else self._http
        if application is None:
            return None
        folder.mkdir()
        for name, text in scene.files:
            (folder / name).write_text(text, encoding="utf-8")
        arguments = ["--policy", str(folder), "--upstream", f"http://127.0.0.1:{application.port}"]
        arguments += ["--listen", "127.0.0.1:0", "--service", scene.service]
        if scene.keys:
            arguments += ["--trusted-ca", str(trusted)]
            arguments += [word for value in self._keys[scene.keys].resolutions() for word in ("--resolve", value)]
        return arguments

    def _take(self, scene: Scene, step: Step, serving: Serving) -> Result:
        record = self._record_of(scene)
        record.take()
        serving.forget_decisions()
        got = send(step.call, serving.address)
        seen = record.take()
        logged = serving.next_decision()
        problems = list(compare(step.expected, got, seen))
        reason = "" if logged is None else str(logged.get("reason", ""))
        if logged is None:
            problems.append("the sidecar logged no decision")
        elif step.expected.reason is not None and reason != step.expected.reason:
            problems.append(f"reason: expected {step.expected.reason}, got {reason}")
        why = _explain(reason, logged, got)
        if step.expected.key_answers is not None:
            answers = tuple(self._keys[scene.keys].answers)
            why += f" (JWKS: {' '.join(map(str, answers))})"
            if answers != step.expected.key_answers:
                problems.append(f"the key server answered {answers}, expected {step.expected.key_answers}")
        return Result(scene, step, _describe_answer(got), _describe_seen(step.expected, seen), why, tuple(problems))

    def _record_of(self, scene: Scene) -> Record:
        if scene.grpc and self._grpc is not None:
            return self._grpc.record
        return self._http.record


def compare(expected: Expected, got: Got, seen: Sequence[Seen]) -> Iterator[str]:
    """Every difference, in words."""
    if got.status != expected.status:
        yield f"status: expected {expected.status}, got {got.status} {conceal(got.body)}".rstrip()
    if expected.body is not None and got.body != expected.body:
        yield f"body: expected `{expected.body}`, got `{conceal(got.body)}`"
    for name, value in expected.answer:
        found = got.header(name)
        if found is None or value not in ("*", found):
            yield f"{name}: expected `{value}`, got `{found}`"
    if not expected.passes:
        if seen:
            yield f"the application saw {len(seen)} request(s), expected none"
        return
    if len(seen) != 1:
        yield f"the application saw {len(seen)} requests, expected one"
        return
    if expected.path is not None and seen[0].path != expected.path:
        yield f"path seen: expected {conceal_query(expected.path)}, got {conceal_query(seen[0].path)}"
    for name, wanted in expected.seen:
        value_seen = seen[0].header(name)
        if value_seen != wanted:
            yield f"{name} seen: expected {_show(wanted)}, got {_show(value_seen)}"


def _explain(reason: str, logged: dict[str, object] | None, got: Got) -> str:
    """The reason and the last failed check of the log's record, unless that only repeats the answer."""
    checks = logged.get("checks") if logged is not None else None
    detail = str(checks[-1]).partition(": ")[2] if isinstance(checks, list) and checks else ""
    return reason if not detail or detail == got.body else f"{reason}: {detail}"


def _show(value: str | None) -> str:
    return "none" if value is None else f"`{conceal(value)}`"


def _describe_answer(got: Got) -> str:
    if got.status in (200, "OK"):
        return f"{got.status} pong" if got.body == "pong" else str(got.status)
    return f"{got.status} {conceal(got.body.strip())}".rstrip()


def _describe_seen(expected: Expected, seen: Sequence[Seen]) -> str:
    if not seen:
        return "nothing"
    one = seen[0]
    headers = [f"{name}: {conceal(value)}" for name, _ in expected.seen if (value := one.header(name)) is not None]
    return "; ".join((f"{one.method} {conceal_query(one.path)}", *headers))
