"""A database's url in the form that PostgreSQL's own programs read it from their environment."""

from psycopg.conninfo import conninfo_to_dict

VARIABLES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "options": "PGOPTIONS",
}


def libpq_environment(url: str) -> dict[str, str]:
    """The variables that psql needs; not its command line, where every user could read the password."""
    given = conninfo_to_dict(url)
    return {VARIABLES[key]: str(value) for key, value in given.items() if key in VARIABLES}
