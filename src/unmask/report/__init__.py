"""Pages and pictures: HTML, tables, reconstructions."""
