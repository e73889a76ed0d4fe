"""Whether a pod has been injected before, truly so: by an earlier call, or offline by ``eastgate inject``.

A status annotation proves nothing, nor does a name: whoever names a container ``eastgate-sidecar`` would be taken for
protected. So what is found is compared with what would be injected. Other webhooks may have been at it meanwhile, and
what they commonly do is accepted: more variables, more mounts, other amounts (VerticalPodAutoscaler), another registry
(mirrors), defaults of a later Kubernetes. What decides whether it is the sidecar is not.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from eastgate.pods import names, probes
from eastgate.pods.annotations import Settings
from webhook.injections.containers import make_init, make_sidecar
from webhook.injections.verdicts import Context, Path, Problem
from webhook.injections.views import CONTAINERS, INIT_CONTAINERS, Container, PodView, map_of, maps_of, show_path
from webhook.injections.volumes import make_volumes

_FREE_VARIABLES = frozenset({names.APP_PROBES_VARIABLE, names.CONTAINER_PORTS_VARIABLE})
"""Whose values follow the rest of the pod."""

_FREE_FIELDS = frozenset({"image", "env", "volumeMounts", "resources", "imagePullPolicy"})

_FORBIDDEN = frozenset(
    {
        "command",
        "envFrom",
        "workingDir",
        "volumeDevices",
        "lifecycle",
        "stdin",
        "tty",
        "privileged",
        "optional",
        "restartPolicy",
        "add",
        "exec",
        "items",
        "host",
        "hostPort",
        "initialDelaySeconds",
        "restartPolicyRules",
        "windowsOptions",
    }
)
"""Fields that change what a container or volume is, wherever they stand. Other fields that we do not write may be
there: a later API server defaults fields that this version does not know.
"""

_LOADERS = ("EASTGATE_", "_EASTGATE", "PYTHON", "LD_", "PATH", "GCONV_PATH", "OPENSSL_")
"""Variables by which a program becomes another one. With `_EASTGATE_COMPLETE` it prints a shell's completion and ends
well: an ``eastgate-init`` that has redirected nothing.
"""

_PROGRAM_FOLDERS = (
    *("/usr", "/opt", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"),
    *("/proc", "/sys", "/app", "/venv", "/home"),
    *("/etc/ld.so.preload", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d"),
)
"""Where the image's program and its libraries may be, and what tells the loader of others. The rest of ``/etc`` is
free: time zones and certificates are mounted there.
"""


_VOLUMES = {volume["name"]: volume for volume in make_volumes()}


@dataclass(frozen=True, slots=True)
class Presence:
    """Where our two containers stand, and the probes that the sidecar knows."""

    init: Container
    sidecar: Container
    table: Mapping[str, probes.AppProbe]

    @property
    def native(self) -> bool:
        """The mode in which the pod was injected; it stays in it."""
        return self.sidecar.group == INIT_CONTAINERS

    def find_variable(self, name: str) -> tuple[Path, str]:
        """Path and value of a variable of the sidecar's; the path of the list's end where it has none."""
        for index, variable in enumerate(maps_of(self.sidecar.data.get("env"))):
            if variable.get("name") == name:
                return (*self.sidecar.path, "env", index, "value"), str(variable.get("value", ""))
        return (*self.sidecar.path, "env", "-"), ""


def find_presence(
    view: PodView, settings: Settings, context: Context
) -> tuple[Presence | None, frozenset[str], list[Problem]]:
    """Our containers where they are there and ours; names of the volumes that are there and ours; and what bears one of
    our names and is something else.
    """
    volumes, problems = _find_volumes(view)
    found = [container for container in view.all_containers() if container.name in names.CONTAINERS]
    if not found:
        return None, volumes, problems
    inits = [one for one in found if one.name == names.INIT_CONTAINER and one.group == INIT_CONTAINERS]
    sidecars = [
        one
        for one in found
        if one.name == names.SIDECAR_CONTAINER
        and (one.group == CONTAINERS or (one.group == INIT_CONTAINERS and one.restartable))
    ]
    if len(found) != 2 or len(inits) != 1 or len(sidecars) != 1:
        return None, volumes, [*problems, *(_clash(one, "the other one is missing or elsewhere") for one in found)]
    init, sidecar = inits[0], sidecars[0]
    native = sidecar.group == INIT_CONTAINERS
    if native and init.index > sidecar.index:
        return None, volumes, [*problems, _clash(init, "it stands after the sidecar")]
    expected = make_sidecar(settings, context, native=native, app_probes="{}", container_ports="")
    differences = (
        (init, _compare_container(make_init(settings, context), init.data)),
        (sidecar, _compare_container(expected, sidecar.data)),
    )
    problems += [_clash(one, why) for one, why in differences if why]
    if problems:
        return None, volumes, problems
    presence = Presence(init, sidecar, {})
    _, text = presence.find_variable(names.APP_PROBES_VARIABLE)
    try:
        return Presence(init, sidecar, probes.from_json(text)), volumes, []
    except probes.ProbeTableError as error:
        return None, volumes, [_clash(sidecar, f"{names.APP_PROBES_VARIABLE} does not read: {error}")]


def _clash(container: Container, why: str) -> Problem:
    message = (
        f"{show_path(container.path)}: the name `{container.name}` is that of an injected container, and this one is "
        f"not what Eastgate injects ({why}); accepted: another name, or the pod without it"
    )
    return Problem("name-clash", message, (*container.path, "name"))


def _find_volumes(view: PodView) -> tuple[frozenset[str], list[Problem]]:
    found = set()
    problems = []
    for index, volume in enumerate(view.volumes):
        name = volume.get("name")
        if not isinstance(name, str) or name not in _VOLUMES:
            continue
        if name in found or _difference(_VOLUMES[name], volume):
            message = (
                f"spec.volumes[{index}]: the name `{name}` is that of an injected volume, and this one is "
                "not what Eastgate injects; accepted: another name"
            )
            problems.append(Problem("name-clash", message, ("spec", "volumes", index, "name")))
        found.add(name)
    return frozenset(found), problems


def _compare_container(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """What is different in a way that matters, or an empty string."""
    rigid = {key: value for key, value in expected.items() if key not in _FREE_FIELDS}
    problem = _difference(rigid, {key: value for key, value in found.items() if key not in _FREE_FIELDS})
    if problem:
        return f"`{problem}` differs"
    if _image_name(found.get("image")) != _image_name(expected["image"]):
        return "`image` differs"
    requests = map_of(map_of(found.get("resources")).get("requests"))
    if not requests.get("cpu") or not requests.get("memory"):
        return "it has no requests for cpu and memory"
    return _compare_environment(expected["env"], maps_of(found.get("env"))) or _compare_mounts(
        expected["volumeMounts"], maps_of(found.get("volumeMounts"))
    )


def _difference(expected: object, found: object, name: str = "") -> str:
    """The name of the first field that differs. Fields that nobody expected are fine unless they are forbidden."""
    if expected == found and type(expected) is type(found):
        return ""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in found.keys() - expected.keys():
            if key in _FORBIDDEN and found[key]:
                return str(key)
        return next((bad for key in expected if (bad := _difference(expected[key], found.get(key), key))), "")
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = zip(expected, found, strict=True)
        return next((bad for one, two in pairs if (bad := _difference(one, two, name))), "")
    return "" if expected == found and type(expected) is type(found) else name or "kind"


def _image_name(image: object) -> str:
    """``eastgate-sidecar`` of ``mirror.example.com/eastgate/eastgate-sidecar:1.0@sha256:...``."""
    return str(image).partition("@")[0].rpartition("/")[2].partition(":")[0]


def _compare_environment(expected: Iterable[Mapping[str, Any]], found: list[Mapping[str, Any]]) -> str:
    present = {str(variable.get("name")): variable for variable in found}
    wanted = {variable["name"]: variable for variable in expected}
    if len(present) != len(found):
        return "a variable is set twice"
    if any(name in present and "valueFrom" in present[name] for name in _FREE_VARIABLES):
        return "a variable of ours comes from elsewhere"
    for name, variable in wanted.items():
        if name not in _FREE_VARIABLES and _difference(variable, present.get(name)):
            return f"variable `{name}` differs"
    if names.APP_PROBES_VARIABLE in wanted and names.APP_PROBES_VARIABLE not in present:
        return f"variable `{names.APP_PROBES_VARIABLE}` is missing"
    strange = (name for name in present if name not in wanted and name not in _FREE_VARIABLES)
    return next((f"variable `{name[:60]}` changes it" for name in strange if name.startswith(_LOADERS)), "")


def _compare_mounts(expected: Iterable[Mapping[str, Any]], found: Iterable[Mapping[str, Any]]) -> str:
    present = {_resolve(str(mount.get("mountPath"))): mount for mount in found}
    wanted = {mount["mountPath"]: mount for mount in expected}
    for path, mount in wanted.items():
        if _difference(mount, present.get(path)) or present[path].get("subPath") or present[path].get("subPathExpr"):
            return f"the mount at `{path}` differs"
    for path in present.keys() - wanted.keys():
        folder = path.rstrip("/") + "/"
        taken = (*(f"{one}/" for one in (*wanted, *_PROGRAM_FOLDERS)),)
        if folder == "/" or any(folder.startswith(one) or one.startswith(folder) for one in taken):
            return f"the mount at `{path[:120]}` covers it"
    return ""


def _resolve(path: str) -> str:
    """In an image ``/var/run`` is a link to ``/run``."""
    plain = posixpath.normpath("/" + path.lstrip("/"))
    return f"/var{plain}" if plain == "/run" or plain.startswith("/run/") else plain
