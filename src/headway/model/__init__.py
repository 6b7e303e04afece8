"""The nouns of Headway: states, jobs, commands and errors. Standard library only, no I/O, no clock."""
