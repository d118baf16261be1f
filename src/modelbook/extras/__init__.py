"""Parts that only the command line imports: backup, demo, drill, eject, schedulers, PDF, site."""
