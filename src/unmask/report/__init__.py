"""Pages and images: HTML, tables, reconstructions."""
