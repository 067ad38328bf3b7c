"""Kafka and Redpanda: client settings, topics, producer, consumer, lag."""
