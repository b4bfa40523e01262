"""What another package adds to the workbench: a family of networks and an inspector."""
