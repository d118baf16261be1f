"""The whole loop on one screen: a book is built, served, watched, retrained, promoted and taken back."""
