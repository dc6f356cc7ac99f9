"""The command line: the composition root, which may import flows; nothing imports it."""
