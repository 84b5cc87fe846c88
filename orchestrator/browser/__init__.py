"""A browser of pseudo-labels: a page that one looks at a sweep's labels with, and the server behind it."""
