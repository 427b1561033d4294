"""`python -m unmask` is the same as `unmask`."""

from unmask.cli.main import main

if __name__ == "__main__":
    main()
