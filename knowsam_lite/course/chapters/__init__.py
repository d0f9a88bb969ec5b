"""One file per chapter: its exercises with their properties and catalogued mistakes, and its quiz's key."""
