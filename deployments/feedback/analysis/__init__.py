"""What the feedback log says: one set of SQL views, and the report, prompt and training rows made from them."""
