"""PostgreSQL and TimescaleDB: connections, migrations, leases, the sink's transaction."""
