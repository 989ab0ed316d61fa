"""Pages and pictures: a memory's page, heat maps, thumbnails. Measures nothing."""
