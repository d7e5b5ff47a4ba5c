"""`python -m constrained_ner`, for launchers that start a module on each device."""

from constrained_ner.cli import main

main()
