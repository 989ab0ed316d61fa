"""What is noted of attention while demonstrations are read, and of which rows."""
