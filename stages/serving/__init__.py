"""The page on which a person drops an image, and the server behind it."""
