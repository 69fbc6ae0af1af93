"""What devices tell each other: the shapes of changes, what follows from them, and how lies show."""
