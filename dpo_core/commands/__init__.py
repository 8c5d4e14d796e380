"""The command line: one file a command, holding its options and its run; nothing imports them."""
