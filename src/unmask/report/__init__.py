"""Reports: HTML pages, tables, figures, reconstructions."""
