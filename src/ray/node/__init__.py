"""The node manager: what a node needs done beside the work itself."""
