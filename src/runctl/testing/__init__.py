"""What the tests of users and plug-ins need: the provider contract, fakes, a clock."""
