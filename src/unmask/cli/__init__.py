"""What can be asked: the command line, one options file and one command file per command."""
