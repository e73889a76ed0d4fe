"""The mounted bundle and what the downward API says of the pod, read together.

Knows: which files stand in which of the three folders. Must not know: when they are read, or what becomes of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from eastgate.pods import names
from eastgate.pods.annotations import read_settings
from eastgate.pods.bundles import MAX_PARTS, SECRETS_FILE, part_file
from eastgate.pods.downward import DownwardError, read_pairs
from sidecar.options import PodOptions
from sidecar.policies.mounts import read_files
from sidecar.policies.workload import PodMaterial, gather_facts

_SHARDS = (*(part_file(number) for number in range(1, MAX_PARTS)), SECRETS_FILE)
_POD = (names.LABELS_FILE, names.ANNOTATIONS_FILE)


class PodError(Exception):
    """What is wrong with the pod's labels or annotations; ``str()`` says it."""


@dataclass(frozen=True, slots=True)
class PodReading:
    """``expected`` is the digest that the controller wants the pod to run, empty where it has not said."""

    material: PodMaterial
    expected: str


def list_folders(options: PodOptions) -> tuple[str, ...]:
    """The folders whose change is a change of policy."""
    return options.bundle, options.shards, options.pod


def read_pod(options: PodOptions) -> PodReading:
    """Everything as it is mounted now. Raises ``MountError`` or ``PodError``; the bundle itself is not opened."""
    pod = read_files(options.pod, _POD)
    labels, annotations = (_read_pairs(pod, name) for name in _POD)
    settings, faults = read_settings(annotations)
    if faults:
        raise PodError("; ".join(map(str, faults)))
    facts = gather_facts(options.namespace, labels, settings, options.ports, options.keys_unavailable)
    files = read_files(options.bundle, (names.MANIFEST_KEY, names.PART_KEY))
    files |= read_files(options.shards, _SHARDS)
    return PodReading(PodMaterial(files, facts), annotations.get(names.BUNDLE, ""))


def _read_pairs(files: dict[str, bytes], name: str) -> dict[str, str]:
    if name not in files:
        raise PodError(f"the downward API's file `{name}` is not there")
    try:
        return read_pairs(files[name])
    except DownwardError as error:
        raise PodError(f"the downward API's file `{name}`: {error}") from None
