"""Things to play with: each a plain drawing function and a thin shell of widgets around it."""
