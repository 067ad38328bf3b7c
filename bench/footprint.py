"""Memory and CPU of the running stack: each process that `hl status` names, with its children, and the sum."""

import argparse
import json
import subprocess
import time
from collections import Counter
from contextlib import suppress
from typing import NamedTuple

import psutil
from rich.table import Table

from bench.stack import HL, RunningStack, console


class Use(NamedTuple):
    """What one process used.

    Args:
        memory_bytes: proportional (PSS): pages that several share count in parts, so sums are honest.
        is_resident: only the resident size (RSS) could be read, which counts shared pages in full.
        cpu_s: seconds of processor time so far.
    """

    memory_bytes: int
    is_resident: bool
    cpu_s: float


def service_pids(stack: RunningStack) -> dict[str, int]:
    """Pids by service."""
    done = subprocess.run(
        [str(HL), "status", "--json"], env=stack.environment, stdout=subprocess.PIPE, check=True
    )
    services = json.loads(done.stdout)["services"]
    pids = {service["name"]: service["pid"] for service in services if service["pid"]}
    return with_supervisor(pids)


def with_supervisor(pids: dict[str, int]) -> dict[str, int]:
    """The pids and that of `hl up` itself, which no status lists: the parent of most of them."""
    parents = Counter(psutil.Process(pid).ppid() for pid in pids.values() if psutil.pid_exists(pid))
    for pid, _ in parents.most_common():
        # 1 has adopted what lost its parent; a service that is a parent is counted already.
        if pid > 1 and pid not in pids.values():
            return {"hl up": pid, **pids}
    return pids


def families(pids: dict[str, int]) -> dict[str, list[psutil.Process]]:
    """Each service's process and what descends from it; a descendant that is a service itself is its own."""
    own = {pid: name for name, pid in pids.items()}
    found: dict[str, list[psutil.Process]] = {name: [] for name in pids}
    for pid, name in own.items():
        waiting = [psutil.Process(pid)] if psutil.pid_exists(pid) else []
        while waiting:
            process = waiting.pop()
            found[name].append(process)
            # A backend of PostgreSQL may end at any moment.
            with suppress(psutil.NoSuchProcess):
                waiting += [child for child in process.children() if child.pid not in own]
    return found


def use_of(process: psutil.Process) -> Use | None:
    """What a process uses now; None when it has ended."""
    try:
        times = process.cpu_times()
        cpu_s = times.user + times.system
        try:
            return Use(process.memory_full_info().pss, is_resident=False, cpu_s=cpu_s)
        except (psutil.AccessDenied, AttributeError):
            return Use(process.memory_info().rss, is_resident=True, cpu_s=cpu_s)
    except psutil.NoSuchProcess:
        return None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench footprint` takes."""
    parser.add_argument("--seconds", type=float, default=30.0, help="for the CPU")


def main(arguments: argparse.Namespace) -> int:
    """Measures and prints; 1 when nothing runs."""
    stack = RunningStack()
    groups = families(service_pids(stack))
    before = {process.pid: use_of(process) for group in groups.values() for process in group}
    began = time.monotonic()
    time.sleep(arguments.seconds)
    seconds = time.monotonic() - began
    after = {process.pid: use_of(process) for group in groups.values() for process in group}

    table = Table(title=f"memory now, CPU over {seconds:.0f} s")
    for head in ("service", "processes", "memory, MB", "CPU, % of a core"):
        table.add_column(head, justify="left" if head == "service" else "right")
    sums = [0, 0.0, 0.0]
    resident = False
    for name, group in groups.items():
        uses = [(before[process.pid], after[process.pid]) for process in group]
        alive = [(one, two) for one, two in uses if one is not None and two is not None]
        memory_mb = sum(two.memory_bytes for _, two in alive) / 1e6
        cpu = 100 * sum(two.cpu_s - one.cpu_s for one, two in alive) / seconds
        resident = resident or any(two.is_resident for _, two in alive)
        table.add_row(name, str(len(alive)), f"{memory_mb:,.0f}", f"{cpu:.1f}")
        sums = [sums[0] + len(alive), sums[1] + memory_mb, sums[2] + cpu]
    table.add_section()
    table.add_row("sum", str(sums[0]), f"{sums[1]:,.0f}", f"{sums[2]:.1f}")
    out = console()
    out.print(table)
    if resident:
        out.print(
            "Some processes belong to others: their memory counts shared pages in full. Run it as root."
        )
    return 0 if sums[0] else 1
