"""The edges: frameworks and clients, one module each, imported only by whoever uses it."""
