"""Pages in a browser: an annotator that a small server on this machine serves, and a demo without a server."""
