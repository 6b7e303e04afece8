"""The database: tables, statements, transitions, the sequencer and the migrations, on SQLite and Postgres."""
