"""lmx: train one transformer under different language-modelling objectives and compare them fairly."""

__version__ = "0.1.0"
