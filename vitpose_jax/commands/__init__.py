"""One module a command: its options (`add_parser`), and what it does in the user's words."""
