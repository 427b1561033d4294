"""The command line: one options file and one command file per command."""
