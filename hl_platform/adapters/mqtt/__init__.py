"""MQTT: the bridge's session and the publisher of the simulator."""
