"""Each device's newest reading, in memory."""

from collections.abc import Iterable, Sequence

from hl_platform.core.readings import Reading


class LatestReadings:
    """Newest reading of every device of one stream; filled from the database once and from Kafka ever after.

    Not for use by several threads.

    Guarantee: a reading is never replaced by one with an older timestamp, in whatever order they come.
    """

    def __init__(self) -> None:
        self._by_device: dict[str, Reading] = {}

    def put_new(self, reading: Reading) -> None:
        """Takes a reading from Kafka; with the same timestamp it is a correction and wins."""
        known = self._by_device.get(reading.device_id)
        if known is None or reading.timestamp >= known.timestamp:
            self._by_device[reading.device_id] = reading

    def put_stored(self, readings: Iterable[Reading]) -> None:
        """Takes rows of the database, which may be older than what Kafka has brought since."""
        for reading in readings:
            known = self._by_device.get(reading.device_id)
            if known is None or reading.timestamp > known.timestamp:
                self._by_device[reading.device_id] = reading

    def list(self, device_ids: Sequence[str] | None = None) -> list[Reading]:
        """The newest readings by device.

        Args:
            device_ids: only these; None for all.
        """
        wanted = self._by_device.keys() if device_ids is None else self._by_device.keys() & set(device_ids)
        return [self._by_device[device_id] for device_id in sorted(wanted)]
