"""Files of a person: tables to import."""
