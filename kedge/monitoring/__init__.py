"""Watching a served model: one check of one window, what it decides, what it leaves behind."""
