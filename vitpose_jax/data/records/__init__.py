"""People cut out once and stored as ArrayRecord crops."""
