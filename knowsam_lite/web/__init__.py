"""Pages in a browser: an annotator, served by this machine to itself, and a demo that needs no server."""
