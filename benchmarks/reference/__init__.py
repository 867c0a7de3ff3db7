"""The references: plain code that a competent user of the same libraries writes today."""
