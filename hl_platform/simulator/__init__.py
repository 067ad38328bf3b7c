"""A plausible home that publishes over MQTT."""
