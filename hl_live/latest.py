"""Each device's newest reading, in memory."""

from collections.abc import Iterable, Sequence

from hl_live.feed.frames import Frame


class LatestReadings:
    """Newest reading of every device of one stream; filled from the database once and from Kafka ever after.

    Not for use by several threads.

    Guarantee: a reading is never replaced by one with an older timestamp, in whatever order they come.
    """

    def __init__(self) -> None:
        self._by_device: dict[str, Frame] = {}

    def put_new(self, frame: Frame) -> None:
        """Takes a reading from Kafka; with the same timestamp it is a correction and wins."""
        known = self._by_device.get(frame.reading.device_id)
        if known is None or frame.reading.timestamp >= known.reading.timestamp:
            self._by_device[frame.reading.device_id] = frame

    def put_stored(self, frames: Iterable[Frame]) -> list[Frame]:
        """Takes rows of the database, which may be older than what Kafka has brought since; returns the newer ones."""
        taken = []
        for frame in frames:
            known = self._by_device.get(frame.reading.device_id)
            if known is None or frame.reading.timestamp > known.reading.timestamp:
                self._by_device[frame.reading.device_id] = frame
                taken.append(frame)
        return taken

    def list(self, device_ids: Sequence[str] | frozenset[str] | None = None) -> list[Frame]:
        """The newest readings by device.

        Args:
            device_ids: only these; None for all.
        """
        wanted = self._by_device.keys() if device_ids is None else self._by_device.keys() & set(device_ids)
        return [self._by_device[device_id] for device_id in sorted(wanted)]
