"""`python -m bench [PART]`; without one, each stage beside its peers, then one table; and the stack, if one runs."""

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType

from bench import (
    aggregates,
    api,
    asgi,
    bridge,
    delay,
    feed,
    feed_stack,
    footprint,
    garbage,
    kills,
    latest,
    load,
    page,
    resume,
    scale,
    sink,
)
from bench.report import print_comparisons, stolen_share
from bench.stack import RunningStack, console
from hl_platform.core.errors import ConfigError, HlError

PARTS: dict[str, ModuleType] = {
    "delay": delay,
    "page": page,
    "footprint": footprint,
    "load": load,
    "kills": kills,
    "garbage": garbage,
    "bridge": bridge,
    "aggregates": aggregates,
    "feed": feed,
    "feed-stack": feed_stack,
    "resume": resume,
    "asgi": asgi,
    "api": api,
    "latest": latest,
    "sink": sink,
    "scale": scale,
}
# What `make bench` runs on servers of its own, and writes as JSON; the last has nothing beside it.
ON_OWN_SERVERS = ("bridge", "sink", "feed", "scale")
# And on the running stack; first what looks at it at its normal rate.
ON_THE_STACK = ("footprint", "delay", "feed-stack", "load")
RESULTS = Path("bench/results")
# A share of the machine's time without which figures are not what they would be.
NOTABLY_STOLEN = 0.02


def main() -> int:
    """Runs what was asked for; 1 when any part failed, 2 when it needs a stack and none was found."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parts = parser.add_subparsers(dest="part", metavar="part")
    for name, module in PARTS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        module.add_arguments(parts.add_parser(name, help=summary, description=module.__doc__))
    arguments = parser.parse_args()
    try:
        code = int(PARTS[arguments.part].main(arguments)) if arguments.part else _measure_all()
    except HlError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    if (share := stolen_share()) > NOTABLY_STOLEN:
        console().print(
            f"While this was measured the hypervisor gave {share:.0%} of the machine's time to others: measure again."
        )
    return code


def _measure_all() -> int:
    return max(_measure_alone(), _measure_stack())


def _measure_alone() -> int:
    RESULTS.mkdir(exist_ok=True)
    code, comparisons = 0, []
    for name in ON_OWN_SERVERS:
        path = RESULTS / f"{name}.json"
        code = max(code, int(PARTS[name].main(_defaults(PARTS[name], "--json", str(path)))))
        comparisons += json.loads(path.read_text(encoding="utf-8")).get("comparisons", [])
    print_comparisons(console(), comparisons)
    console().print(f"All figures, the machine and the versions are in {RESULTS}.")
    return code


def _measure_stack() -> int:
    try:
        RunningStack()
    except ConfigError:
        console().print("No hl runs here: what measures it was left out. `hl up` starts one.")
        return 0
    return max(int(PARTS[name].main(_defaults(PARTS[name]))) for name in ON_THE_STACK)


def _defaults(module: ModuleType, *given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return parser.parse_args(given)


if __name__ == "__main__":
    sys.exit(main())
