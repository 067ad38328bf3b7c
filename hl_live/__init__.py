"""The live service: REST, WebSocket feed and the web page."""
