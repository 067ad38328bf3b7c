"""The SQL models, and the engine that keeps what they say true."""
