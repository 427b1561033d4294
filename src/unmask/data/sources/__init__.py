"""One file per form that data comes in: folders, archives, arrays, lists."""
