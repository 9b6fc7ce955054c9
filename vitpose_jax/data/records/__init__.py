"""People cut out once and kept as ArrayRecord crops."""
