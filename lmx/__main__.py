"""`python -m lmx` is `lmx`."""

from lmx.cli import main

if __name__ == "__main__":
    main()
