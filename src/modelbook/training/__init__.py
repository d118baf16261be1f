"""Compare, tune, blend and refit models; judge them honestly; explain them."""
