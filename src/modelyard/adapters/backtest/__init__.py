"""History, gone through again by the rules that run in production."""
