"""Values, functions and failures to bytes and back; the only room that knows what stored bytes mean."""
