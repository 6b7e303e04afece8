"""The command line. Every module here is cheap to import: what is heavy is imported where it is used."""
