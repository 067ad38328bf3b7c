"""The services that carry readings: plain classes with run() and stop()."""
