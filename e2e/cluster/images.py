"""The images of the tests: the two published ones as `hack/images` builds them, and what stands in for the sample apps.

Everything is built once and kept: an image whose inputs are the same is not built again, and layers that several images
share are written once. The images go into the node under the names that the manifests use, so that the manifests are
applied as they are: ``eastgate-webhook:0.1.0``, ``kennethreitz/httpbin`` and so on. Needs buildah.

    python -m e2e.cluster.images FILE      all of them as one archive, for a cluster of one's own
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import eastgate
from e2e.cluster.locks import hold
from e2e.cluster.node import ROOT, Node

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eastgate" / "e2e"
TAG = eastgate.__version__
BASE = "localhost/eastgate-base:trixie"
APPS = f"localhost/eastgate-apps:{TAG}"
NAMES = {
    f"localhost/eastgate-webhook:{TAG}": (f"docker.io/library/eastgate-webhook:{TAG}",),
    f"localhost/eastgate-sidecar:{TAG}": (f"docker.io/library/eastgate-sidecar:{TAG}",),
    APPS: (
        "localhost/apps:1",
        "docker.io/kennethreitz/httpbin:latest",
        "gcr.io/k8s-staging-gateway-api/echo-basic:v20231214-v1.0.0-140-gf544a46e",
        "ghcr.io/projectcontour/yages:v0.1.0",
        "docker.io/curlimages/curl:8.11.1",
    ),
    BASE: ("localhost/pause:1",),
}
"""What each image is called in the cluster."""
INPUTS = '{{index .OCIv1.Config.Labels "dev.eastgate.inputs"}}'


class ImageError(Exception):
    """The images could not be built; the text says which part said what."""


@contextmanager
def prepare_images() -> Iterator[Path]:
    """Build what is not there yet; yields a folder in OCI image layout with all of it. For the block it stays as it is:
    another checkout's tests would put theirs into it.
    """
    if shutil.which("buildah") is None:
        raise ImageError("missing: buildah (apt-get install buildah mmdebstrap)")
    with hold(CACHE / "lock", "somebody else builds images"):
        if os.environ.get("EASTGATE_E2E_REUSE") == "1" and (CACHE / "layout" / "stamp").is_file():
            yield CACHE / "layout"  # For those who write tests.
        else:
            yield _build_images()


def _build_images() -> Path:
    wheels = CACHE / "wheel"
    shutil.rmtree(wheels, ignore_errors=True)
    python = ROOT / ".venv" / "bin" / "python"
    run(python, "-m", "build", "--no-isolation", "--wheel", "--outdir", wheels, ROOT)
    run(ROOT / "hack" / "images", TAG, WHEELS=str(wheels), BUILDER="buildah")
    if run("buildah", "images", "--quiet", BASE, check=False) == "":
        run(ROOT / "hack" / "base-image", BASE.removeprefix("localhost/"), BUILDER="buildah")
    sidecar = f"localhost/eastgate-sidecar:{TAG}"
    lock = re.findall(r"^grpcio==.*?(?=^\S)", (ROOT / "locks" / "dev.txt").read_text(), re.DOTALL | re.MULTILINE)
    apps = {one.name: one.read_text() for one in sorted((HERE / "apps").iterdir()) if one.is_file()}
    build_on(sidecar, APPS, "Dockerfile.apps", {**apps, "lock.txt": "".join(lock)})
    return write_layout(CACHE / "layout")


def build_on(base: str, image: str, dockerfile: str, files: dict[str, str]) -> None:
    """A small image on top of another, unless it is there."""
    recipe = (HERE / dockerfile).read_text()
    made_of = json.dumps([recipe, files, run("buildah", "inspect", "--type", "image", "--format", INPUTS, base)])
    inputs = hashlib.sha256(made_of.encode()).hexdigest()[:16]
    if run("buildah", "inspect", "--type", "image", "--format", INPUTS, image, check=False) == inputs:
        return
    context = CACHE / "context"
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir(parents=True)
    for name, text in files.items():
        (context / name).write_text(text)
    arguments = ["--build-arg", f"BASE={base}", "--build-arg", f"PYTHON={BASE}"]
    arguments += ["--label", f"dev.eastgate.inputs={inputs}"]
    with tempfile.TemporaryDirectory() as folder:
        arguments += run(ROOT / "hack" / "pip-secrets", folder).split("\n")
        build = ("buildah", "bud", "--layers", "--isolation", "chroot")
        run(*build, *arguments, "-t", image, "-f", HERE / dockerfile, context)


def write_layout(folder: Path) -> Path:
    """All images in one OCI image layout: a layer that several have is there once. Returns the folder."""
    identities = [run("buildah", "images", "--quiet", "--no-trunc", image) for image in NAMES]
    key = hashlib.sha256(json.dumps([identities, list(NAMES.values())]).encode()).hexdigest()
    stamp = folder / "stamp"
    if stamp.is_file() and stamp.read_text() == key:
        return folder
    stamp.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(NAMES):
        run("buildah", "push", "--quiet", "--disable-compression", image, f"oci:{folder}:{number}")
    index = json.loads((folder / "index.json").read_text())
    tagged = {one.get("annotations", {}).get("org.opencontainers.image.ref.name"): one for one in index["manifests"]}
    tagged = {str(number): tagged[str(number)] for number in range(len(NAMES))}
    manifests, wanted = [], set()
    for number, names in enumerate(NAMES.values()):
        described = tagged[str(number)]
        found = json.loads((folder / "blobs/sha256" / described["digest"].partition(":")[2]).read_text())
        wanted |= {described["digest"], found["config"]["digest"], *(layer["digest"] for layer in found["layers"])}
        manifests += [{**described, "annotations": {"io.containerd.image.name": name}} for name in names]
    # buildah finds its own images by number when it writes the next time.
    (folder / "names.json").write_text(json.dumps({**index, "manifests": manifests}))
    (folder / "index.json").write_text(json.dumps({**index, "manifests": list(tagged.values())}))
    for blob in (folder / "blobs" / "sha256").iterdir():
        if f"sha256:{blob.name}" not in wanted:
            blob.unlink()
    stamp.write_text(key)
    return folder


def stream_layout(folder: Path) -> subprocess.Popen[bytes]:
    """The layout as a tar on stdout, with the names that containerd is to know the images by."""
    rename = "s,^names.json$,index.json,"
    command = ["tar", "-c", "-C", str(folder), "--transform", rename, "oci-layout", "names.json", "blobs"]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def load_layout(node: Node, folder: Path) -> None:
    """Bring the images into a node."""
    archive = stream_layout(folder)
    assert archive.stdout is not None
    node.load_images(archive.stdout)
    if archive.wait():
        raise ImageError(f"tar could not read {folder}")


def write_archive(folder: Path, file: Path) -> None:
    """The same as a file, as ``ctr images import``, ``kind load image-archive`` and ``k3d image import`` read it."""
    archive = stream_layout(folder)
    assert archive.stdout is not None
    with file.open("wb") as written:
        shutil.copyfileobj(archive.stdout, written, 1024 * 1024)
    if archive.wait():
        raise ImageError(f"tar could not read {folder}")


def run(*command: str | Path, check: bool = True, **environment: str) -> str:
    """What a program printed; its last words in the error where it fails."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    if check and done.returncode:
        raise ImageError(f"{Path(command[0]).name} {' '.join(map(str, command[1:4]))}:\n{done.stderr[-3000:]}")
    return done.stdout.strip()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m e2e.cluster.images FILE")
    with prepare_images() as images:
        write_archive(images, Path(sys.argv[1]))
    print("\n".join(name for names in NAMES.values() for name in names))
