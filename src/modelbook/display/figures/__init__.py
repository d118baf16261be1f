"""The figures of each stage: data frames in, figures with text and data out."""
