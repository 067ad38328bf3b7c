"""`python -m hl_platform.simulator`: the normal home until stopped, as `hl up` runs it."""

from hl_platform.simulator.command import simulate

simulate(prog_name="hl simulate")
