"""The command line: `python3 -m cluster --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from cluster import debian, docker, image_store, images, kind, node, pins, tools
from cluster.programs import redis
from cluster.steps import StepFailed, alone, planned, say

DESCRIPTION = f"""\
Create a kind cluster on this machine, and build the images that run in it.

Public images are pulled if possible. Otherwise they are built here from Go modules, Debian packages and PyPI. Build
results stay in {pins.cache()} ($FOREBAY_CACHE) and in the docker engine. If you run a command again, it
does only what is missing.
"""

EXAMPLES = """\
examples:
  python3 -m cluster up --images    the cluster with everything that `make demo` needs
  python3 -m cluster images --tests build changed images again, also those for the tests, and load them
  python3 -m cluster down           delete the cluster, and stop the docker engine if it was started here
"""


def parser() -> argparse.ArgumentParser:
    """The command line's grammar, with its help."""
    top = argparse.ArgumentParser(
        prog="python3 -m cluster",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, summary: str, named: bool = True) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if named:
            added.add_argument("--name", default="forebay", help="the cluster's name (default: %(default)s)")
        return added

    up = verb("up", "create the cluster, with the docker engine and tools that it needs")
    up.add_argument("--images", action="store_true", help="also build and load the images, in parallel")
    up.add_argument("--tests", action="store_true", help="with --images: also images that only tests need")
    up.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="REFERENCE",
        help="also load this image, which the docker engine has",
    )
    verb("down", "delete the cluster, and stop the docker engine if it was started here and runs nothing else")
    verb("tools", "build kind, kubectl, helm, etcd and kube-apiserver, and print their folder", named=False)
    verb("redis", "find or install Redis for the tests, and print its path", named=False)
    made = verb(
        "images", "build the images, load those for pods into the cluster if it runs, and print their references"
    )
    made.add_argument(
        "only", nargs="*", metavar="IMAGE", help=f"only these images and their bases: {', '.join(images.IMAGES)}"
    )
    made.add_argument("--tests", action="store_true", help="also images that only tests need")
    gpu = verb("gpu", "advertise fake GPUs on a node, so that pods that request GPUs are scheduled there")
    gpu.add_argument("node", metavar="NODE", help="such as forebay-control-plane")
    gpu.add_argument("count", metavar="COUNT", type=int, help="number of GPUs; 0 removes them")
    return top


def run(arguments: argparse.Namespace) -> None:
    """Run the command of the command line."""
    match arguments.verb:
        case "up":
            up(arguments.name, images.wanted(arguments.tests) if arguments.images else [], arguments.also)
        case "down":
            kind.down(arguments.name)
        case "tools":
            print(tools.host_tools())
        case "redis":
            print(redis.server())
        case "images":
            kind.ensure_engine()
            chosen = images.with_bases(arguments.only) if arguments.only else images.wanted(arguments.tests)
            images.build(chosen)
            kind.load(arguments.name, images.references([images.IMAGES[name] for name in arguments.only] or chosen))
            show(chosen)
        case "gpu":
            kind.advertise_gpus(arguments.name, arguments.node, arguments.count)


def up(name: str, chosen: Sequence[images.Image], also: Sequence[str] = ()) -> None:
    """Make the cluster and the images side by side. Then load the images, and also images that the engine has."""
    kind.ensure_engine()

    unused = ExitStack()

    def build() -> docker.Export | None:
        images.build(chosen)
        export = kind.begin_export(name, [*images.references(chosen), *also])
        return unused.enter_context(export) if export else None

    def load(new: bool) -> None:
        export = building.result()
        kind.load(name, [*images.references(chosen), *also], alone=new and bool(chosen), export=export)

    with unused, planned(plan(name, chosen)), ThreadPoolExecutor(1) as side_by_side:
        building = side_by_side.submit(build)
        kind.up(name, load)
    show(chosen)


def plan(name: str, chosen: Sequence[images.Image]) -> list[str]:
    """The steps that are still to be done for a cluster with these images. They are for the estimate of the remaining
    time."""
    steps = [f"building the image {image.name}" for image in chosen if not docker.has(images.reference(image.name))]
    if steps and not docker.has(debian.reference()):
        steps.append(f"making a Debian {pins.DEBIAN} base image")
    steps += node.plan()
    image = node.present()
    if not kind.is_recorded(name, image):
        steps += [f"creating the cluster {name}", f"waiting for the cluster {name} to be whole"]
        if not image or image_store.volume(name, image) not in image_store.volumes(name):
            steps.append(f"loading images into {name}-control-plane")
    return steps


def show(chosen: Sequence[images.Image]) -> None:
    """Print the references of images on standard output, one a line after its name."""
    for image in chosen:
        print(image.name, images.named(image), sep="\t")


def main() -> int:
    """Run one command. Returns 1 after it printed the reason of a failure, else 0."""
    arguments = parser().parse_args()
    unknown = set(getattr(arguments, "only", ())) - images.IMAGES.keys()
    if unknown:
        parser().error(f"there is no image {', '.join(sorted(unknown))}; there are {', '.join(images.IMAGES)}")
    try:
        with alone():
            run(arguments)
    except StepFailed as failure:
        say(str(failure))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
