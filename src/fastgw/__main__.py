"""`python -m fastgw`."""

from fastgw.cli import main

if __name__ == "__main__":
    main()
