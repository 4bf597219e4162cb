"""Where bytes live: layout, staging, atomic publishing, and the catalogue users open."""
