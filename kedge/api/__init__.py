"""What ``import kedge`` offers: tables of any library in, results that a notebook shows."""
