"""Tasks and actors as the caller sees them: remote functions, handles, arguments, the current session."""
