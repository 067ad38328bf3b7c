"""hl: home and IoT telemetry, from MQTT to PostgreSQL exactly once."""

__version__ = "0.1.0"
