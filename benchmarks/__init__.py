"""What Headway costs and how fast it is, side by side with its peers; apart from the tests."""
