"""From a model's file to tables, views and refreshes in PostgreSQL.

| module | what it does |
|---|---|
| model | reads the header of a model |
| project | finds all models, in order of their dependencies |
| render | turns a model's text into SQL, through the macros |
| objects | the SQL that makes a model's table, functions and view |
| refresh | materializes dirty buckets |
| lineage | which column comes from which |
| scaffold | writes the models of a new stream |
"""
