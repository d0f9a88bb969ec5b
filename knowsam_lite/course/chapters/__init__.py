"""One folder per chapter: its exercises, their properties and catalogued mistakes, and the quiz key."""
