"""`python -m bench [PART]`; without one, delay, footprint and load on the running stack."""

import argparse
import sys
from types import ModuleType

from bench import (
    aggregates,
    api,
    asgi,
    bridge,
    delay,
    feed,
    footprint,
    garbage,
    kills,
    latest,
    load,
    resume,
    sink,
)
from hl_platform.core.errors import HlError

PARTS: dict[str, ModuleType] = {
    "delay": delay,
    "footprint": footprint,
    "load": load,
    "kills": kills,
    "garbage": garbage,
    "bridge": bridge,
    "aggregates": aggregates,
    "feed": feed,
    "resume": resume,
    "asgi": asgi,
    "api": api,
    "latest": latest,
    "sink": sink,
}
# What `make bench` runs; the load comes last, so that the others see the stack at its normal rate.
ON_THE_STACK = ("delay", "footprint", "load")


def main() -> int:
    """Runs what was asked for; 1 when any part failed, 2 when no stack was found."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parts = parser.add_subparsers(dest="part", metavar="part")
    for name, module in PARTS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        module.add_arguments(parts.add_parser(name, help=summary, description=module.__doc__))
    arguments = parser.parse_args()
    try:
        if arguments.part:
            return int(PARTS[arguments.part].main(arguments))
        return max(int(PARTS[name].main(_defaults(PARTS[name]))) for name in ON_THE_STACK)
    except HlError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2


def _defaults(module: ModuleType) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return parser.parse_args([])


if __name__ == "__main__":
    sys.exit(main())
