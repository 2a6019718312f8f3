"""What people look at: tables, charts, images, and the page."""
