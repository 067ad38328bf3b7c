"""kill -9 of bridge and sink at random, again and again under load: rows sent = rows stored, exactly."""

import argparse
from pathlib import Path

from rich.console import Console


def main(arguments: argparse.Namespace, console: Console, results: Path) -> int:
    raise NotImplementedError
