"""What happened: errors and their printing, the timeline."""
