"""Ends what a killed hl leaves behind.

The kernel ends the children of a killed hl, but not their children: the bridge and the sink, which Dagster's code
server started, would go on without servers, and be in the way of nobody but never end.
"""

import contextlib
import uuid
from pathlib import Path

from hl_platform.stack.process import Child, Command
from hl_platform.stack.server import plain_environment

# Not HL_…: an unknown variable of that prefix is an error.
MARK_VARIABLE = "HOMELAB_STACK"
# In the shell's own words, so that it costs one megabyte and not a Python.
SCRIPT = """
finish() {
    trap '' TERM
    kill "$pause"
    for number in TERM KILL; do
        for environment in /proc/[0-9]*/environ; do
            if grep -qszxF "$1" "$environment"; then
                pid=${environment#/proc/}
                kill -s "$number" "${pid%/environ}" 2>/dev/null
            fi
        done
        [ "$number" = KILL ] || sleep 3
    done
    exit 0
}
trap 'finish "$1"' TERM
while :; do
    sleep 3600 &
    pause=$!
    wait "$pause"
done
"""


class Guard:
    """Waits for the death of hl, and then ends every process that carries the mark."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self._child: Child | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What marks a process as ours."""
        return {MARK_VARIABLE: self.mark}

    def start(self, logs: Path, lock: int) -> None:
        """Begins to wait. Call in a thread that lives as long as hl does.

        Args:
            logs: directory for its log.
            lock: file descriptor of the data directory's lock, held until all is ended.
        """
        command = Command(
            ["/bin/sh", "-c", SCRIPT, "hl-guard", f"{MARK_VARIABLE}={self.mark}"],
            plain_environment(logs),
            logs,
        )
        self._child = Child(command, logs / "guard.log", (lock,))

    def stop(self) -> None:
        """Waits no longer: everything has ended in order."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()
            self._child = None
