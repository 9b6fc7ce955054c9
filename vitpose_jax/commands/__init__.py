"""One module per command: its options (`add_parser`) and what it does (`run`)."""
