"""Tasks and actors as the caller sees them: remote functions, actor handles, arguments, the current session."""
