"""The command-line tools; installed, they are the commands of `mmact`."""
