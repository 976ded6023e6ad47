"""The demonstration: a served model goes bad, is noticed, retrained, released, and a bad candidate is rolled back."""
