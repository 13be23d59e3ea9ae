"""The images that run in the cluster. Each is built once for each state of its inputs, and loaded into the cluster."""

from __future__ import annotations

import glob
import re
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cluster import debian, docker, pins
from cluster.steps import StepFailed, step
from overlay import image as overlay
from overlay.oci_archive import this_architecture


@dataclass(frozen=True)
class Image:
    """How one image is made.

    Its Dockerfile is Dockerfile.<dockerfile> at the root of the checkout, with the checkout as its context, or
    Dockerfile in `folder` with the folder as its context. It gets the reference of `base` as build argument BASE_IMAGE.
    The overlay has no base: overlay/ builds it without a Dockerfile.
    """

    name: str
    base: str
    folder: str = ""
    dockerfile: str = ""
    """The end of its Dockerfile's name; if empty, the name of the image."""
    official: str = ""
    """A public image that replaces it if it can be pulled."""
    tag: str = ""
    """A fixed tag, besides the one that names its content."""
    runs: bool = True
    """Whether pods run it. Other images are only bases, or run only in docker. They are not loaded into the cluster."""
    tests: bool = False
    """Whether only tests need it."""
    only_named: bool = False
    """Whether it is built only on request, by name."""


OVERLAY = "forebay-server"
"""The image with only Forebay's server."""

IMAGES = {
    image.name: image
    for image in (
        Image("python", "debian", "cluster/images/python", official=pins.OFFICIAL_PYTHON, runs=False),
        Image("vllm-cpu", "python", "cluster/images/vllm-cpu", official=pins.OFFICIAL_VLLM_CPU),
        Image("operator", "python"),
        Image(OVERLAY, ""),
        Image("smollm2-135m-instruct", "vllm-cpu", "cluster/images/smollm2", tag="1"),
        Image("server", "vllm-cpu", runs=False, tests=True),
        Image("vllm-canned", "vllm-cpu", "cluster/images/vllm-canned", tests=True),
        Image("server-canned", "vllm-canned", dockerfile="server", runs=False, tests=True),
        Image("vllm-buckets", "vllm-cpu", "cluster/images/vllm-buckets", tests=True),
        Image("vllm-026", "vllm-cpu", "cluster/images/vllm-026", runs=False, tests=True),
        Image("vllm-033", "vllm-cpu", "cluster/images/vllm-033", runs=False, tests=True),
        Image("vllm-tests", "server", "cluster/images/vllm-tests", runs=False, only_named=True),
        Image("valkey", "python", "cluster/images/valkey"),
        Image("client", "python", "cluster/images/client", tests=True),
        Image("prometheus", "debian", "cluster/images/prometheus", tests=True),
    )
}


def images(tests: bool = True) -> dict[str, str]:
    """The references of the images that pods run, by name; `tests` adds those that only tests need.

    `build` makes them from the current checkout. This function does not check that they exist.
    """
    return {image.name: named(image) for image in wanted(tests) if image.runs}


def wanted(tests: bool) -> list[Image]:
    """The images to build if the command names no image, bases among them."""
    return [image for image in IMAGES.values() if not image.only_named and (tests or not image.tests)]


def with_bases(names: Iterable[str]) -> list[Image]:
    """The images of these names and their bases. Raises KeyError for an unknown name."""
    chosen: dict[str, Image] = {}
    below = list(names)
    while below:
        image = IMAGES[below.pop()]
        chosen[image.name] = image
        below += [image.base] if image.base in IMAGES else []
    return list(chosen.values())


def named(image: Image) -> str:
    """The name of the image in pods, with its fixed tag if it has one."""
    return f"{pins.IMAGE_PREFIX}/{image.name}:{image.tag}" if image.tag else reference(image.name)


def reference(name: str) -> str:
    """The reference of an image: the public one if that was pulled, else one with a hash of its inputs."""
    if name == "debian":
        return debian.reference()
    image = IMAGES[name]
    if name == OVERLAY:
        return f"{pins.IMAGE_PREFIX}/{name}:{overlay.key()}"
    if image.official and docker.has(image.official):
        return image.official
    key = pins.key([image.name, reference(image.base)], inputs(image), context(image))
    return f"{pins.IMAGE_PREFIX}/{name}:{key}"


def context(image: Image) -> Path:
    """The folder that the names in the image's Dockerfile are relative to."""
    return pins.ROOT / image.folder


def dockerfile(image: Image) -> Path:
    """The image's Dockerfile."""
    path = context(image) / ("Dockerfile" if image.folder else f"Dockerfile.{image.dockerfile or image.name}")
    if not path.is_file():
        raise StepFailed(f"the image {image.name} needs {path}, which is not there", "use a whole checkout")
    return path


def inputs(image: Image) -> list[Path]:
    """The files that the image is made of: its Dockerfile, and the files that the Dockerfile copies."""
    copied = [
        Path(path)
        for pattern in sources(dockerfile(image).read_text())
        for path in sorted(glob.glob(str(context(image) / pattern)))
    ]
    return [dockerfile(image), *dict.fromkeys(path for path in pins.files(*copied) if path != dockerfile(image))]


def sources(text: str) -> list[str]:
    """The files that a Dockerfile copies from its context, as COPY and ADD name them. Files that it copies from other
    stages are omitted."""
    found = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = line.split()
        if words and words[0].upper() in ("COPY", "ADD") and not any(word.startswith("--from=") for word in words):
            found += [word for word in words[1:-1] if not word.startswith("--")]
    return found


def levels(chosen: Iterable[Image]) -> list[list[Image]]:
    """The images in groups whose bases are all in earlier groups, so that a group can be made side by side."""
    groups: dict[int, list[Image]] = {}
    for image in chosen:
        groups.setdefault(depth(image), []).append(image)
    return [groups[level] for level in sorted(groups)]


def depth(image: Image) -> int:
    """The number of images made here that lie below the image."""
    return 1 + depth(IMAGES[image.base]) if image.base in IMAGES else 0


def build(chosen: Iterable[Image]) -> None:
    """Make the images that the engine does not have."""
    with ThreadPoolExecutor() as side_by_side:
        for group in levels(chosen):
            list(side_by_side.map(make, group))


def make(image: Image) -> None:
    """Make one image if it is missing; its base must be there, except for Debian's."""
    target = reference(image.name)
    if image.name == OVERLAY:
        make_overlay(target)
        return
    if not docker.has(target) and not (image.official and docker.pull(image.official)):
        base = debian.image() if image.base == "debian" else reference(image.base)
        with step(f"building the image {image.name}", "check that PyPI and npm can be reached") as building:
            entries = [(str(path.relative_to(context(image))), path) for path in inputs(image)]
            name = dockerfile(image).name
            docker.build(building, target, entries, {"BASE_IMAGE": base}, dockerfile=name)
    if image.tag:
        docker.tag(target, named(image))


def make_overlay(target: str) -> None:
    """Build the overlay for this machine's architecture if it is missing."""
    if docker.has(target):
        return
    with (
        step(f"building the image {OVERLAY}", "check that Go can be installed") as building,
        tempfile.TemporaryDirectory() as folder,
    ):
        archive = Path(folder, "image.tar")
        overlay.make_archive(archive, target, architectures=[this_architecture()])
        building.run(["docker", "load", "--input", archive])


def references(chosen: Iterable[Image]) -> list[str]:
    """The references of those that pods run; one with a fixed tag has two."""
    running = [image for image in chosen if image.runs]
    return list(dict.fromkeys(name for image in running for name in (reference(image.name), named(image))))
