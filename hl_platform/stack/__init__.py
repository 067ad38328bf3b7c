"""The embedded servers and processes behind `hl up`."""
