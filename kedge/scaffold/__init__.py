"""A first policy from a table: look at the columns, guess what each is, write it down with the reasons."""
