"""Many verdicts in few words: how many of each kind, with an example."""

from collections.abc import Iterable

import msgspec

from hl_platform.pipeline.judge import Kind, Verdict


class VerdictGroup(msgspec.Struct, kw_only=True):
    """Entries of which the same would become.

    Args:
        reason: empty where they are accepted.
        n: how many.
        example_id, example_detail: of the first.
    """

    kind: Kind
    stream: str
    reason: str
    n: int
    example_id: int
    example_detail: str


class VerdictCounts(msgspec.Struct):
    """What would become of a selection."""

    groups: list[VerdictGroup]

    @property
    def n(self) -> int:
        """Entries in all."""
        return sum(group.n for group in self.groups)

    @property
    def n_accepted(self) -> int:
        """Entries that would be stored."""
        return self._n("accepted")

    @property
    def n_possible(self) -> int:
        """Entries that can be replayed, however it may end."""
        return self.n - self._n("impossible")

    def document(self) -> dict[str, object]:
        """For programs."""
        counts = {kind: self._n(kind) for kind in ("accepted", "rejected", "impossible")}
        return {"n": self.n, **counts, "groups": msgspec.to_builtins(self.groups)}

    def _n(self, kind: str) -> int:
        return sum(group.n for group in self.groups if group.kind == kind)


def count_verdicts(verdicts: Iterable[Verdict]) -> VerdictCounts:
    """Verdicts by kind, stream and reason, the most frequent first; holds no more than one of each in memory."""
    groups: dict[tuple[str, str, str], VerdictGroup] = {}
    for verdict in verdicts:
        key = (verdict.kind, verdict.entry.stream, verdict.reason)
        if key in groups:
            groups[key].n += 1
        else:
            groups[key] = VerdictGroup(
                kind=verdict.kind,
                stream=verdict.entry.stream,
                reason=verdict.reason,
                n=1,
                example_id=verdict.entry.id,
                example_detail=verdict.detail,
            )
    return VerdictCounts(sorted(groups.values(), key=lambda group: -group.n))
