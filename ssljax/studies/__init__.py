"""A study: several runs that answer a question, and their results."""
