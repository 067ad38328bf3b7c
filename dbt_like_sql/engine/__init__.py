"""From a model's file to tables, views and refreshes in PostgreSQL.

| module | what it does |
|---|---|
| model | reads the header of a model |
| project | finds all models, in order of their dependencies |
| render | turns a model's text into SQL, through the macros |
| objects | the SQL that makes a model's table, functions and view |
| refresh | materializes dirty buckets |
| syntax | whether a model is SQL, said with the line of its file |
| lineage | which column comes from which |
| docs | pages about the models |
| examples, example_runner | tests of models: given these rows, a model has those |
| checks | what must not be in a model |
| texts | reads the files of examples and checks |
| scaffold | writes the models of a new stream |
"""
