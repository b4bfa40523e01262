"""`python -m workbench` is the command line."""

from workbench.cli import entry

if __name__ == "__main__":
    entry()
