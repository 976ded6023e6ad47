"""Champion against challenger on the same newest rows, and the gates a challenger must pass."""
