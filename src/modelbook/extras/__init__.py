"""Optional parts that the core never imports: demo, schedulers, stream, PDF, site."""
