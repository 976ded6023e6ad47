"""What an installation needs, checked one small thing at a time; every finding says what to type."""
