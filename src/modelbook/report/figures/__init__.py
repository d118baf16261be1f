"""The figures of each stage: plain frames in, a drawing with its words and numbers out."""
