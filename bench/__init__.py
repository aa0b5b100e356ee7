"""A side-by-side benchmark: the same orders and effects, by this project and by its peers. See README.md."""
