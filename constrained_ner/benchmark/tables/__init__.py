"""The tables of the report, independent of its file format; one module for each subject."""
