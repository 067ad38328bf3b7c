"""From a model's file to tables, views and refreshes in PostgreSQL.

| module | what it does |
|---|---|
| model | reads the header of a model |
| project | finds all models, in order of their dependencies |
| render | turns a model's text into SQL, through the macros |
| objects | the SQL that makes a model's table, functions and view |
| deploy | makes those, and remakes what has changed |
| marks, floors | which buckets are dirty, and below which time nothing is computed again |
| refresh | materializes dirty buckets |
| drain, pace | refreshes until nothing is dirty, at the database's pace |
| audit, soundness | compares buckets with what they were made from; fresh, covered, conserved, worked off |
| retain, retention, model_retention | drops what is materialized, checked and archived |
| archive, absorb, restore | what the archive must do; late readings merged into it; readings brought back |
| refreshes | forgets old records of refreshes |
| syntax | whether a model is SQL, said with the line of its file |
| lineage | which column comes from which |
| docs | pages about the models |
| examples, example_runner | tests of models: given these rows, a model has those |
| checks | what must not be in a model |
| texts | reads the files of examples and checks |
| scaffold | writes the models of a new stream |
"""
