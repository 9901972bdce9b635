"""The API text and what this project adds to it, statement by statement, each with its tests."""
