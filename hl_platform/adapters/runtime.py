"""How Python runs a process that lives for days and works with several threads."""

import gc
import sys

# Python's own is ten times that.
SHORT_TURN_S = 0.0005


def spare_what_is_loaded() -> None:
    """Has garbage collection look no more at what a process has loaded, now that it begins to work.

    Once in some thousand batches it looks at everything. Of Dagster's 150,000 objects that takes 0.1 s, in which no
    reading passes; none of them is ever garbage.
    """
    gc.freeze()


def take_short_turns() -> None:
    """Has a thread that computes let the others have the interpreter soon.

    For a process in which one thread computes while another hands a batch to a server, piece by piece: it waits for the
    interpreter after each. Not for the live service, whose one busy thread is the one that must not wait.
    """
    sys.setswitchinterval(SHORT_TURN_S)
