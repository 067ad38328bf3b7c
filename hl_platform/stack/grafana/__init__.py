"""Grafana's data source and dashboards, written from the streams and the models."""
